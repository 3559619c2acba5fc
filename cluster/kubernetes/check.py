"""Holds rendered manifests against what a schema cannot say. Argument: the file that kustomize made."""

import sys

import yaml

LEAVE_SECONDS = 35  # what a worker takes at most to leave (crates/node/src/worker.rs)


def problems(objects):
    by_kind = {}
    for found in objects:
        by_kind.setdefault(found["kind"], []).append(found)
    configs = {found["metadata"]["name"] for found in by_kind.get("ConfigMap", [])}
    sets = by_kind.get("StatefulSet", [])
    if {pod_labels(found).get("app.kubernetes.io/component") for found in sets} != {"coordinator", "worker"}:
        yield "not one StatefulSet for each role"
    for found in sets:
        name, pod = found["metadata"]["name"], found["spec"]["template"]["spec"]
        yield from (f"{name}: {problem}" for problem in of_pod(pod, configs))
        if not selects(found["spec"]["selector"], pod_labels(found)):
            yield f"{name}: does not select its own pods"
        services = [it for it in by_kind["Service"] if it["metadata"]["name"] == found["spec"]["serviceName"]]
        if not services or services[0]["spec"].get("clusterIP") != "None":
            yield f"{name}: `serviceName` is no headless service"
        if not any(selects(it["spec"]["selector"], pod_labels(found)) for it in by_kind["PodDisruptionBudget"]):
            yield f"{name}: no PodDisruptionBudget"
        guarding = [it for it in by_kind["NetworkPolicy"] if selects(it["spec"]["podSelector"], pod_labels(found))]
        for direction in ("Ingress", "Egress"):
            if not any(direction in it["spec"]["policyTypes"] for it in guarding):
                yield f"{name}: no NetworkPolicy for {direction}"
        yield from (f"{name}: {problem}" for problem in of_peers(guarding, [pod_labels(it) for it in sets]))
    for service in by_kind["Service"]:
        if not any(selects({"matchLabels": service["spec"]["selector"]}, pod_labels(it)) for it in sets):
            yield f"service {service['metadata']['name']} selects nothing"


def of_pod(pod, configs):
    """The profile `restricted`, and what nodes insist on."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a service account's token, which nobody needs"
    if pod["terminationGracePeriodSeconds"] < LEAVE_SECONDS and any("worker" in it["name"] for it in pod["containers"]):
        yield f"is ended before it can leave, which takes up to {LEAVE_SECONDS} s"
    security = pod["securityContext"]
    if not security.get("runAsNonRoot") or security["seccompProfile"]["type"] != "RuntimeDefault":
        yield "does not keep to the profile `restricted`"
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container["securityContext"]
        if own.get("allowPrivilegeEscalation") is not False or own["capabilities"] != {"drop": ["ALL"]}:
            yield f"{container['name']} does not keep to the profile `restricted`"
        if not own.get("readOnlyRootFilesystem"):
            yield f"{container['name']} can write to its image"
        if "memory" not in container["resources"].get("limits", {}):
            yield f"{container['name']} has no limit of memory"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        unknown = mounted - {volume["name"] for volume in pod["volumes"]}
        if unknown:
            yield f"{container['name']} mounts what is not there: {unknown}"
    for container in pod["containers"]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container[probe]["httpGet"]["scheme"] != "HTTPS":
                yield f"{container['name']}: {probe} does not speak HTTPS, and nodes do"
    for volume in pod["volumes"]:
        # A node refuses secrets that everybody can read.
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"{volume['name']} can be read by everybody"
        if "configMap" in volume and volume["configMap"]["name"] not in configs:
            yield f"ConfigMap {volume['configMap']['name']} is not there"


def of_peers(policies, pods):
    """Nodes reach each other and the name server."""
    let_out = [rule for it in policies for rule in it["spec"].get("egress", [])]
    let_in = [rule for it in policies for rule in it["spec"].get("ingress", [])]
    for pod in pods:
        if not any(opens(rule, "to", pod, 7420) for rule in let_out):
            yield "cannot call another node"
        if not any(opens(rule, "from", pod, 7420) for rule in let_in):
            yield "cannot be called by another node"
    if not any(opens(rule, "to", {"k8s-app": "kube-dns"}, 53) for rule in let_out):
        yield "cannot ask the name server"
    for access, port in (("admin", 7420), ("metrics", 7421)):
        if not any(opens(rule, "from", {"distributary-access": access}, port) for rule in let_in):
            yield f"whoever may have {access} is kept out of port {port}"
    if any(opens(rule, "from", {"app": "stranger"}, port) for rule in let_in for port in (7420, 7421)):
        yield "lets in anybody"


def opens(rule, side, labels, port):
    ports = [(it["port"], it.get("endPort", it["port"])) for it in rule.get("ports", [])]
    if ports and not any(first <= port <= last for first, last in ports):
        return False
    peers = rule.get(side)
    return not peers or any("podSelector" in it and selects(it["podSelector"], labels) for it in peers)


def selects(selector, labels):
    selector = selector.get("matchLabels", selector)
    return all(labels.get(key) == value for key, value in selector.items())


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        objects = [found for found in yaml.safe_load_all(file) if found]
    found = sorted(set(problems(objects)))
    for problem in found:
        print(f"{sys.argv[1]}: {problem}", file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{len(objects)} objects: ok")


main()
