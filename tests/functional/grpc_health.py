"""grpcio's health server, and a client of it, each a program: grpcio has threads, which a test's process should not.

`serve PORT`: each line that it reads is what it says from then on, such as NOT_SERVING; it begins with SERVING.
`ask PORT`: at each line that it reads it connects, asks, and prints what it is told.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

STATES = health_pb2.HealthCheckResponse.ServingStatus
#: Seconds.
PATIENCE = 30.0
#: Or all channels would share a connection.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def serve(address: str) -> None:
    states = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    server.add_insecure_port(address)
    states.set("", STATES.SERVING)
    server.start()
    print("serves")
    for line in sys.stdin:
        states.set("", STATES.Value(line.strip()))
    server.stop(None)


def ask(address: str) -> None:
    for _ in sys.stdin:
        with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        print(STATES.Name(answer.status))


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](f"127.0.0.1:{sys.argv[2]}")
