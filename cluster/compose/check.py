"""Holds the compose file, as Compose understands it, and the Dockerfile against what we promise.

Arguments: the resolved compose file, the Dockerfile, the repository's root.
"""

import os
import re
import sys

import dockerfile
import yaml

LEAVE_SECONDS = 35  # what a worker takes at most to leave (crates/node/src/worker.rs)
NODES = {f"{letter}{number}" for letter in "cw" for number in "123"}


def of_compose(compose):
    services = compose["services"]
    if not NODES | {"cli", "certificates", "kafka", "postgres"} <= services.keys():
        yield "not three coordinators, three workers, and what they need"
    published = []
    for name, service in services.items():
        for port in service.get("ports", []):
            published.append(port["published"])
            if port.get("host_ip") != "127.0.0.1":
                yield f"{name}: port {port['published']} is open to other machines"
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and not os.path.exists(volume["source"]):
                yield f"{name}: {volume['source']} is not there"
        image = service["image"]
        if ":" not in image or image.endswith(":latest"):
            yield f"{name}: {image} is another one tomorrow"
    if len(published) != len(set(published)):
        yield "a port is published twice"
    for name in NODES & services.keys():
        service = services[name]
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            yield f"{name}: can do more than it need be able to"
        if service.get("hostname") != name:
            yield f"{name}: has another host name, by which others would look for it"
        if name.startswith("w") and seconds(service.get("stop_grace_period", "10s")) < LEAVE_SECONDS:
            yield f"{name}: is ended before it can leave, which takes up to {LEAVE_SECONDS} s"
        if f"{name}={'coordinator' if name.startswith('c') else 'worker'}" not in services["certificates"]["command"]:
            yield f"{name}: gets no certificate"


def seconds(text):
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def of_dockerfile(path, root):
    stages, user = [], None
    for command in dockerfile.parse_file(path):
        match command.cmd.upper():
            case "FROM":
                if stages and stages[-1] != "build" and user is None:
                    yield f"line {command.start_line}: the stage before runs as root"
                user = None
                if ":" not in command.value[0]:
                    yield f"line {command.start_line}: {command.value[0]} is another one tomorrow"
                stages.append(command.value[2] if 2 < len(command.value) else "")
            case "USER":
                user = command.value[0]
            case "COPY" if not any(flag.startswith("--from") for flag in command.flags):
                for source in command.value[:-1]:
                    if not os.path.exists(os.path.join(root, source)):
                        yield f"line {command.start_line}: {source} is not there"
    if user is None or user.split(":")[0] in ("0", "root"):
        yield "the image runs as root"
    with open(path + ".dockerignore", encoding="utf-8") as file:
        for line in file:
            if line.startswith("!") and not os.path.exists(os.path.join(root, line[1:].strip())):
                yield f"{path}.dockerignore: {line[1:].strip()} is not there"


def main():
    resolved, image, root = sys.argv[1:]
    with open(resolved, encoding="utf-8") as file:
        compose = yaml.safe_load(file)
    found = [f"compose.yaml: {it}" for it in of_compose(compose)]
    found += [f"Dockerfile: {it}" for it in of_dockerfile(image, root)]
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{len(compose['services'])} services, image: ok")


main()
