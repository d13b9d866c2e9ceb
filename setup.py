from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="pylb",
    version=run_path(str(HERE / "pylb" / "__init__.py"))["__version__"],
    description="A load balancer for TCP, UDP and HTTP on Twisted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    # twisted.plugins is a folder that many projects share: it has no __init__.py and find_packages does not see it.
    packages=[*find_packages(include=["pylb", "pylb.*"]), "twisted.plugins"],
    # reference.md is a link to docs/configuration.md, whose descriptions `pylb schema` repeats.
    package_data={"pylb": ["py.typed"], "pylb.config": ["reference.md"]},
    python_requires=">=3.11",
    install_requires=[
        "twisted[tls]>=26.10",
        "pyOpenSSL>=26.0",
        "service-identity>=24.1",
        "cryptography>=44",
        "zope.interface>=8.0",
        "PyYAML>=6.0",
        "pydantic>=2.10",
        "click>=8.1",
        "h2>=4.4.1",
    ],
    extras_require={
        "test": [
            "hypothesis>=6.100",
            "jsonschema>=4.20",
            "trustme>=1.2",
            "h11>=0.16",
            "httptools>=0.7",
            "websockets>=14",
            "dnspython>=2.7",
            "grpcio-health-checking>=1.70",
            "setuptools>=70.1",  # a test builds a wheel, without the network
        ],
        "lint": ["ruff>=0.9", "mypy>=1.15", "mypy-zope>=1.0", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["pylb = pylb.cli:main"]},
    zip_safe=False,
)
