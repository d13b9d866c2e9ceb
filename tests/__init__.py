from hypothesis import settings

# How long an example takes says something of the machine, not of pylb.
settings.register_profile("pylb", deadline=None)
settings.load_profile("pylb")
