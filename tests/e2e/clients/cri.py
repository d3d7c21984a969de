#!/usr/bin/python3
"""cri.py SOCKET DESCRIPTORS LOGS   Drives a CRI v1 server through every call it has, with gRPC's own client.

DESCRIPTORS is what `protoc --include_imports --descriptor_set_out` makes of the interface. The node has the images tools:1
(Linux) and hello:1 (Wasm). Fails on the first answer that is not as it should be, and if any call was left out.
"""
import base64
import os
import socket
import struct
import sys
import threading
import urllib.parse

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SOCKET, DESCRIPTORS, LOGS = sys.argv[1:]
pool = descriptor_pool.DescriptorPool()
files = descriptor_pb2.FileDescriptorSet.FromString(open(DESCRIPTORS, "rb").read())
for file in files.file:
    pool.Add(file)
channel = grpc.insecure_channel("unix:" + SOCKET)
called = set()


def message(name):
    descriptor = pool.FindMessageTypeByName("runtime.v1." + name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def methods():
    for service in ("RuntimeService", "ImageService"):
        for method in pool.FindServiceByName("runtime.v1." + service).methods:
            yield service, method


def call(name, timeout=60, **fields):
    """Makes a call; of a stream, answers all of it, or for events the stream itself."""
    for service, method in methods():
        if method.name != name:
            continue
        called.add(name)
        streams = name.startswith("Stream") or name == "GetContainerEvents"
        kind = channel.unary_stream if streams else channel.unary_unary
        made = kind(
            f"/runtime.v1.{service}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message(method.output_type.name).FromString,
        )
        request = message(method.input_type.name)(**fields)
        if name == "GetContainerEvents":
            return made(request)
        return list(made(request, timeout=timeout)) if streams else made(request, timeout=timeout)
    raise AssertionError(f"there is no {name}")


def refused(code, name, **fields):
    try:
        call(name, **fields)
    except grpc.RpcError as error:
        assert error.code() == code, f"{name}: {error.code()} {error.details()}"
        assert error.details(), f"{name} says nothing"
        return error.details()
    raise AssertionError(f"{name} was not refused")


def check(truth, *what):
    assert truth, what


def websocket(url, protocol):
    """Upgrades to a WebSocket; answers its socket and what is left of the answer."""
    parts = urllib.parse.urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline()
    check(b" 101 " in status, status)
    while stream.readline().strip():
        pass
    return connection, stream


def frames(stream):
    """The messages of a server, until it closes."""
    while True:
        head = stream.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return
        length = head[1] & 127
        if length == 126:
            (length,) = struct.unpack(">H", stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", stream.read(8))
        yield stream.read(length)


def send(connection, payload):
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    connection.sendall(bytes([0x82, 0x80 | len(payload)]) + mask + masked)


def quiet(stream):
    try:
        yield from stream
    except grpc.RpcError:
        return


def sandbox(name, **more):
    return {
        "metadata": {"name": name, "uid": "uid-" + name, "namespace": "default", "attempt": 0},
        "log_directory": os.path.join(LOGS, name),
        "labels": {"app": name},
        **more,
    }


def run_sandbox(config, handler=""):
    os.makedirs(config["log_directory"], exist_ok=True)
    return call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id


def create(pod, config, name, image, **more):
    container = {
        "metadata": {"name": name, "attempt": 0},
        "image": {"image": image},
        "log_path": name + ".log",
        "labels": {"part": name},
        **more,
    }
    return call("CreateContainer", pod_sandbox_id=pod, config=container, sandbox_config=config).container_id


# Who it is, and how it is.
check(call("Version").runtime_api_version == "v1")
conditions = {condition.type: condition.status for condition in call("Status", verbose=True).status.conditions}
check(conditions["RuntimeReady"] and conditions["NetworkReady"], conditions)
check(call("RuntimeConfig").linux.cgroup_driver in (0, 1))
call("UpdateRuntimeConfig", runtime_config={"network_config": {"pod_cidr": "10.128.0.0/17"}})

# Images of both kinds.
tags = {tag for image in call("ListImages").images for tag in image.repo_tags}
check(any("tools:1" in tag for tag in tags) and any("hello:1" in tag for tag in tags), tags)
streamed = {tag for part in call("StreamImages") for image in part.images for tag in image.repo_tags}
check(streamed == tags, streamed)
for image in ("tools:1", "hello:1"):
    check(call("ImageStatus", image={"image": image}, verbose=True).image.id, image)
check(not call("ImageStatus", image={"image": "none:1"}).HasField("image"))
check(call("ImageFsInfo").image_filesystems[0].used_bytes.value > 0)
refused(grpc.StatusCode.UNKNOWN, "PullImage", image={"image": "127.0.0.1:9/none:1"})

# A pod of a Linux container and one of Wasm, while somebody listens.
events = call("GetContainerEvents")
heard = []
threading.Thread(target=lambda: [heard.append(event) for event in quiet(events)], daemon=True).start()


config = sandbox("both", port_mappings=[{"container_port": 8080}])
pod = run_sandbox(config)
check(run_sandbox(config) == pod, "the same pod again is the same sandbox")
linux = create(
    pod,
    config,
    "linux",
    "tools:1",
    command=["sh", "-c", "echo up; while read line; do echo heard $line; done; sleep 1000000"],
    stdin=True,
    envs=[{"key": "GREETING", "value": b"ahoy"}],
    linux={"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_shares": 128}},
)
wasm = create(pod, config, "wasm", "hello:1")
refused(grpc.StatusCode.NOT_FOUND, "CreateContainer", pod_sandbox_id=pod, sandbox_config=config,
        config={"metadata": {"name": "none"}, "image": {"image": "none:1"}})
for container in (linux, wasm):
    check(call("ContainerStatus", container_id=container).status.state == 0, "it is created")
    call("StartContainer", container_id=container)
    told = call("ContainerStatus", container_id=container, verbose=True)
    check(told.status.state == 1 and told.info, told)
told = call("PodSandboxStatus", pod_sandbox_id=pod, verbose=True)
check(told.status.state == 0 and told.status.network.ip, told)
address = told.status.network.ip
for name, item in (("ListPodSandbox", "items"), ("StreamPodSandboxes", "pod_sandboxes")):
    answers = call(name, filter={"label_selector": {"app": "both"}})
    answers = answers if isinstance(answers, list) else [answers]
    check([found.id for answer in answers for found in getattr(answer, item)] == [pod], name)
for name in ("ListContainers", "StreamContainers"):
    answers = call(name, filter={"pod_sandbox_id": pod})
    answers = answers if isinstance(answers, list) else [answers]
    check({found.id for answer in answers for found in answer.containers} == {linux, wasm}, name)

# Into them.
said = call("ExecSync", container_id=linux, cmd=["sh", "-c", "echo $GREETING; echo oh >&2; exit 3"], timeout=30)
check((said.stdout, said.stderr, said.exit_code) == (b"ahoy\n", b"oh\n", 3), said)
check(call("ExecSync", container_id=wasm, cmd=["echo", "hello"], timeout=30).stdout == b"hello\n")
refused(grpc.StatusCode.DEADLINE_EXCEEDED, "ExecSync", container_id=linux, cmd=["sleep", "100"], timeout=1)
url = call("Exec", container_id=linux, cmd=["sh", "-c", "read line; echo got $line; exit 5"],
           stdin=True, stdout=True, stderr=True).url
connection, stream = websocket(url, "v5.channel.k8s.io")
send(connection, b"\0words\n")
texts = list(frames(stream))
check(b"\x01got words\n" in texts, texts)
check(any(text[:1] == b"\x03" and b'"5"' in text for text in texts), texts)
url = call("Attach", container_id=linux, stdin=True, stdout=True, stderr=True).url
connection, stream = websocket(url, "v4.channel.k8s.io")
send(connection, b"\0you\n")
check(any(text == b"\x01heard you\n" for text in frames(stream)), "attached")
connection.close()
url = call("PortForward", pod_sandbox_id=pod, port=[8080]).url
check(url.startswith("http://127.0.0.1:"), url)
with socket.create_connection((address, 8080), timeout=60) as direct:
    direct.sendall(b"GET / HTTP/1.0\r\nHost: hello\r\n\r\n")
    check(b"200" in direct.makefile("rb").readline(), "it answers")

# What they use and may use.
call("UpdateContainerResources", container_id=linux, linux={"memory_limit_in_bytes": 96 << 20})
limit = call("ContainerStatus", container_id=linux).status.resources.linux.memory_limit_in_bytes
check(limit == 96 << 20, limit)
for container in (linux, wasm):
    stats = call("ContainerStats", container_id=container).stats
    check(stats.attributes.id == container and stats.cpu.usage_core_nano_seconds.value > 0, stats)
    # A guest that answers nobody at the moment has no memory.
    check(stats.memory.HasField("working_set_bytes"), stats)
for name, item in (("ListContainerStats", "stats"), ("StreamContainerStats", "container_stats")):
    answers = call(name, filter={"pod_sandbox_id": pod})
    answers = answers if isinstance(answers, list) else [answers]
    check({found.attributes.id for answer in answers for found in getattr(answer, item)} == {linux, wasm}, name)
check(call("PodSandboxStats", pod_sandbox_id=pod).stats.attributes.id == pod)
for name, item in (("ListPodSandboxStats", "stats"), ("StreamPodSandboxStats", "pod_sandbox_stats")):
    answers = call(name, filter={"id": pod})
    answers = answers if isinstance(answers, list) else [answers]
    check([found.attributes.id for answer in answers for found in getattr(answer, item)] == [pod], name)
described = {descriptor.name for descriptor in call("ListMetricDescriptors").descriptors}
for name, item in (("ListPodSandboxMetrics", "pod_metrics"), ("StreamPodSandboxMetrics", "pod_sandbox_metrics")):
    answers = call(name)
    answers = answers if isinstance(answers, list) else [answers]
    found = [metrics for answer in answers for metrics in getattr(answer, item) if metrics.pod_sandbox_id == pod]
    check(len(found) == 1, name)
    names = {metric.name for container in found[0].container_metrics for metric in container.metrics}
    check(names and names <= described, names - described)
try:
    call("UpdatePodSandboxResources", pod_sandbox_id=pod, resources={"cpu_shares": 256})
except grpc.RpcError as error:
    # Older containerds do not have it.
    check(error.code() == grpc.StatusCode.UNIMPLEMENTED, error)
refused(grpc.StatusCode.UNIMPLEMENTED, "CheckpointContainer", container_id=linux, location="/tmp/none")

# The log goes on in a new file.
log = os.path.join(config["log_directory"], "linux.log")
check("stdout F up" in open(log).read(), "logged")
os.rename(log, log + ".1")
call("ReopenContainerLog", container_id=linux)
check(os.path.exists(log), "reopened")

# The end.
for container in (linux, wasm):
    call("StopContainer", container_id=container, timeout=1)
    check(call("ContainerStatus", container_id=container).status.state == 2, "it has ended")
    call("StopContainer", container_id=container, timeout=1)
    call("RemoveContainer", container_id=container)
    call("RemoveContainer", container_id=container)
    refused(grpc.StatusCode.NOT_FOUND, "ContainerStatus", container_id=container)
call("StopPodSandbox", pod_sandbox_id=pod)
call("StopPodSandbox", pod_sandbox_id=pod)
check(call("PodSandboxStatus", pod_sandbox_id=pod).status.state == 1)
call("RemovePodSandbox", pod_sandbox_id=pod)
call("RemovePodSandbox", pod_sandbox_id=pod)
refused(grpc.StatusCode.NOT_FOUND, "PodSandboxStatus", pod_sandbox_id=pod)
kinds = {event.container_event_type for event in heard}
check({0, 1, 2, 3} <= kinds, kinds)
check({event.container_id for event in heard} >= {pod, linux, wasm}, "events of all of them")
events.cancel()

# A pod of Wasm alone, by its handler.
config = sandbox("wasm", port_mappings=[{"container_port": 8080}])
pod = run_sandbox(config, "wasm")
container = create(pod, config, "only", "hello:1")
call("StartContainer", container_id=container)
refusal = refused(grpc.StatusCode.INVALID_ARGUMENT, "CreateContainer", pod_sandbox_id=pod, sandbox_config=config,
                  config={"metadata": {"name": "linux"}, "image": {"image": "tools:1"}, "log_path": "linux.log"})
print("refused:", refusal)
call("RemovePodSandbox", pod_sandbox_id=pod)
for image in ("tools:1", "hello:1"):
    call("RemoveImage", image={"image": image})
    call("RemoveImage", image={"image": image})
    check(not call("ImageStatus", image={"image": image}).HasField("image"), image)

left_out = {method.name for _, method in methods()} - called
check(not left_out, "left out:", left_out)
print(f"all {len(called)} calls")
