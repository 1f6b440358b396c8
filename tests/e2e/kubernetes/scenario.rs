//! Objects of every kind that is discovered, ordinary and odd, made by the API alone: no process stands behind them.

use serde_json::{Value, json};

/// The namespaces that they are in.
pub(super) const NAMESPACES: [&str; 2] = ["shop", "payment"];
/// Nodes without a kubelet.
pub(super) const NODES: [&str; 3] = ["paper-a", "paper-b", "paper-c"];
/// How many ways there are of making a pod.
pub(super) const VARIANTS: usize = 14;

/// Namespaces and nodes.
pub(super) fn ground() -> Vec<Value> {
    let mut objects: Vec<Value> = NAMESPACES.iter().map(|name| namespace(name, "one")).collect();
    for (number, name) in NODES.iter().enumerate() {
        objects.push(node(name, number));
    }
    objects
}

/// A node that has changed its zone, its rack and its addresses, and a new one.
pub(super) fn later_nodes() -> Vec<Value> {
    vec![node(NODES[1], 9), node("paper-d", 3)]
}

/// A namespace whose label has this value.
pub(super) fn namespace(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"team": value}, "annotations": {"example.com/owner": name}},
    })
}

fn node(name: &str, number: usize) -> Value {
    let mut addresses = vec![
        json!({"type": "InternalIP", "address": format!("10.99.0.{}", number + 1)}),
        json!({"type": "Hostname", "address": name}),
    ];
    if number == 1 {
        addresses.insert(0, json!({"type": "ExternalIP", "address": "203.0.113.7"}));
        addresses.push(json!({"type": "InternalIP", "address": "fd00::7"}));
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"zone": format!("zone-{number}"), "example.com/weird.key_x": "y"},
            "annotations": {"example.com/rack": number.to_string()},
        },
        "spec": {"providerID": format!("paper://{name}")},
        "status": {
            "addresses": addresses,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Paper", "message": ""}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250 + number}},
        },
    })
}

/// Pod number `number`: its variant is its number modulo [`VARIANTS`]. A later `round` has other labels and annotations.
pub(super) fn pod(number: usize, round: usize) -> Value {
    let address = format!("10.99.{}.{}", 1 + number / 250, 1 + number % 250);
    let mut containers = vec![json!({"name": "app", "image": "shop/app:1", "ports": [
        {"name": "http", "containerPort": 8080}]})];
    let mut init = Vec::new();
    let mut annotations = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "8080"});
    let mut status = running(&address, true);
    let mut spec = json!({"nodeName": NODES[number % NODES.len()]});
    let mut owner = Value::Null;
    match number % VARIANTS {
        1 => {
            containers[0]["ports"] = json!([
                {"name": "http", "containerPort": 8080}, {"containerPort": 9090, "protocol": "TCP"},
                {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
            let ports = json!([{"name": "metrics", "containerPort": 9100}]);
            containers.push(json!({"name": "sidecar", "image": "shop/sidecar", "ports": ports}));
        }
        2 => {
            init.push(json!({"name": "prepare", "image": "shop/init", "ports": [{"containerPort": 7000}]}));
            init.push(json!({"name": "proxy", "image": "shop/proxy", "restartPolicy": "Always", "ports": [
                {"name": "admin", "containerPort": 15000}]}));
        }
        3 => {
            spec["hostNetwork"] = json!(true);
            containers[0]["ports"] = json!([{"name": "host", "containerPort": 9000, "hostPort": 9000}]);
        }
        4 => containers[0]["ports"] = json!([]),
        5 => status = running(&address, false),
        6 => status["phase"] = json!("Succeeded"),
        7 => status["phase"] = json!("Failed"),
        8 => {
            status = json!({"phase": "Pending"});
            spec["nodeName"] = Value::Null;
            // The scheduler is to leave it alone.
            spec["schedulerName"] = json!("nobody");
        }
        9 => {
            annotations = json!({
                "prometheus.io/scrape": "TRUE", "empty": "", "example.com/Ünicode-free.key_1": "value",
                "example.com/text": "first line\nsecond: \"line\" \\ {x}", "example.com/unicode": "größe ☃",
                "prometheus.io/port": "not a port",
            });
            annotations.as_object_mut().unwrap().remove("example.com/Ünicode-free.key_1");
        }
        10 => owner = json!({"kind": "ReplicaSet", "name": "app-5d9c", "apiVersion": "apps/v1"}),
        11 => owner = json!({"kind": "Job", "name": "nightly-28", "apiVersion": "batch/v1"}),
        12 => {
            let address = format!("fd00::{number:x}");
            status["podIP"] = json!(address);
            status["podIPs"] = json!([{"ip": address}]);
        }
        13 => {
            status["containerStatuses"] = json!([{
                "name": "app", "image": "shop/app:1", "imageID": "sha256:1", "ready": true, "restartCount": 0,
                "containerID": "paper://123456", "state": {"running": {}}}]);
        }
        _ => {}
    }
    spec["containers"] = json!(containers);
    spec["initContainers"] = json!(init);
    spec["automountServiceAccountToken"] = json!(false);
    let name = format!("pod-{number}");
    let mut metadata = json!({
        "name": name, "namespace": NAMESPACES[number % 2], "annotations": annotations,
        "labels": {"app": format!("app-{}", number % 4), "round": round.to_string(), "a.b/c-d_e": "x"},
    });
    if !owner.is_null() {
        owner["uid"] = json!(format!("00000000-0000-0000-0000-{number:012}"));
        owner["controller"] = json!(true);
        // The garbage collector would delete a pod whose owner does not exist; a finalizer keeps what is known of it.
        metadata["finalizers"] = json!(["example.com/keep"]);
        metadata["ownerReferences"] = json!([owner]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
}

fn running(address: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({
        "phase": "Running", "hostIP": "10.99.0.1", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": status}],
    })
}

/// Services, with the endpoints and slices that the controllers make of them and some made by hand, and ingresses.
pub(super) fn services(round: usize) -> Vec<Value> {
    let meta = |name: &str, namespace: &str| {
        json!({
            "name": name, "namespace": namespace,
            "labels": {"round": round.to_string(), "kind.of/service": name},
            "annotations": {"example.com/round": format!("{round} of many")},
        })
    };
    let service = |name: &str, namespace: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": meta(name, namespace), "spec": spec});
    let selected = |app: usize| json!({"app": format!("app-{app}")});
    let one_port = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let foreign = format!("app-{}", round + 20);
    vec![
        service("plain", "shop", json!({"selector": selected(0), "ports": one_port})),
        service(
            "several",
            "shop",
            json!({"selector": selected(2), "ports": [
            {"name": "http", "port": 80, "targetPort": "http"}, {"name": "more", "port": 81 + round},
            {"name": "udp", "port": 53, "protocol": "UDP"}]}),
        ),
        service(
            "headless",
            "payment",
            json!({"clusterIP": "None", "selector": selected(1), "ports": one_port}),
        ),
        service(
            "unready",
            "payment",
            json!({"clusterIP": "None", "selector": selected(3),
            "publishNotReadyAddresses": true, "ports": [{"port": 8080}]}),
        ),
        service(
            "elsewhere",
            "shop",
            json!({"type": "ExternalName", "externalName": "db.example.com",
            "ports": [{"name": "db", "port": 5432}]}),
        ),
        service("outside", "shop", json!({"type": "NodePort", "selector": selected(2), "ports": one_port})),
        service(
            "balanced",
            "payment",
            json!({"type": "LoadBalancer", "selector": selected(1), "ports": one_port,
            "loadBalancerIP": "203.0.113.9"}),
        ),
        service("byhand", "shop", json!({"ports": one_port})),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta("byhand", "shop"), "subsets": [
            {"addresses": [{"ip": "10.99.200.1", "hostname": "one"},
                {"ip": "10.99.200.2", "nodeName": "paper-b",
                 "targetRef": {"kind": "Pod", "namespace": "shop", "name": "pod-0"}},
                {"ip": "10.99.200.5", "targetRef": {"kind": "Pod", "namespace": "payment", "name": "pod-11"}}],
             "notReadyAddresses": [{"ip": "10.99.200.3"}],
             "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 9000 + round}]},
            {"addresses": [{"ip": "10.99.200.4",
                "targetRef": {"kind": "Node", "name": "paper-a"}}], "ports": [{"port": 1}]}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "slice-by-hand", "namespace": "payment",
                "labels": {"kubernetes.io/service-name": "headless", "round": round.to_string()},
                "annotations": {"slice": "yes"}},
            "endpoints": [
                {"addresses": ["10.99.201.1"], "zone": "zone-1", "nodeName": "paper-a", "hostname": "h",
                 "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.99.201.2"], "deprecatedTopology": {"example.com/topology": "t"}},
                {"addresses": ["10.99.201.3"], "targetRef": {"kind": "Node", "name": "paper-c"}},
                {"addresses": ["10.99.201.4"],
                 "targetRef": {"kind": "Pod", "namespace": "shop", "name": "pod-2"}}],
            "ports": [{"name": "http", "port": 8080, "appProtocol": "http"}, {"name": "x", "port": 9000 + round}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
            "metadata": {"name": "slice-of-names", "namespace": "shop"},
            "endpoints": [{"addresses": ["one.example.com"]}], "ports": [{"name": "", "port": 443}]}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("web", "shop"), "spec": {
            "ingressClassName": "nginx",
            "tls": [{"hosts": ["secure.example.com", "*.wild.example.com"], "secretName": "tls"}],
            "rules": [
                {"host": "secure.example.com", "http": {"paths": [path("/"), path("/admin")]}},
                {"host": "a.wild.example.com", "http": {"paths": [path("/")]}},
                {"host": "plain.example.com", "http": {"paths": [path("/x")]}},
                {"host": "none.example.com"},
                {"host": foreign.replace("app", "host"), "http": {"paths": [path("/y")]}}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta("nohost", "payment"),
            "spec": {"defaultBackend": backend(), "rules": [{"http": {"paths": [path("/z")]}}], "tls": [{}]}}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "app-5d9c", "namespace": "shop",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "app", "controller": true,
                "uid": "00000000-0000-0000-0001-000000000001"}], "finalizers": ["example.com/keep"]},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"none": "none"}},
                "template": {"metadata": {"labels": {"none": "none"}}, "spec": {"containers": [
                    {"name": "app", "image": "none"}]}}}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "nightly-28", "namespace": "payment",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "controller": true,
                "uid": "00000000-0000-0000-0001-000000000002"}], "finalizers": ["example.com/keep"]},
            "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [
                {"name": "app", "image": "none"}]}}}}),
    ]
}

fn path(path: &str) -> Value {
    json!({"path": path, "pathType": "Prefix", "backend": backend()})
}

fn backend() -> Value {
    json!({"service": {"name": "plain", "port": {"number": 80}}})
}
