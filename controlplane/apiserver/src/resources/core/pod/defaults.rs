//! What a pod's spec says when its author said nothing, as `pkg/apis/core/v1/defaults.go` of Kubernetes documents it.
//! The same function serves pods and templates; what only a real pod gets stands in [`pod`].

use serde_json::{Map, Value, json};

use crate::resources::defaults::{ensure_map, is_left_out, map_of, maps_of, set_default};

/// rw-r--r--
const FILE_MODE: i64 = 0o644;
const GRACE_SECONDS: i64 = 30;
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a pod, on top of [`spec`]: requests follow limits, and a host's ports are the container's.
pub(crate) fn pod(spec_map: &mut Map<String, Value>) {
    spec(spec_map);
    set_default(spec_map, "enableServiceLinks", true);
    let host_network = spec_map.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default();
    for field in ["containers", "initContainers"] {
        for container in maps_of(spec_map, field) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = map_of(container, "resources") else {
        return;
    };
    let Some(limits) = resources
        .get("limits")
        .and_then(Value::as_object)
        .filter(|l| !l.is_empty())
        .cloned()
    else {
        return;
    };
    let Some(requests) = ensure_map(resources, "requests") else {
        return;
    };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_ports(container: &mut Map<String, Value>) {
    for port in maps_of(container, "ports") {
        let number = port.get("containerPort").cloned().unwrap_or_default();
        if port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0 && !number.is_null() {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

/// A `PodTemplateSpec`'s spec, where there is one.
pub(crate) fn template(template: Option<&mut Value>) {
    if let Some(map) = template.and_then(|t| t.get_mut("spec")).and_then(Value::as_object_mut) {
        spec(map);
    }
}

/// Defaults of any pod's spec.
pub(crate) fn spec(spec: &mut Map<String, Value>) {
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "securityContext", Map::new());
    set_default(spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    service_account(spec);
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        maps_of(spec, field).for_each(container);
    }
    maps_of(spec, "volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both always say the same.
pub(crate) fn service_account(spec: &mut Map<String, Value>) {
    let source = if is_left_out(spec, "serviceAccountName") {
        "serviceAccount"
    } else {
        "serviceAccountName"
    };
    let Some(name) = spec
        .get(source)
        .filter(|v| v.as_str().is_some_and(|s| !s.is_empty()))
        .cloned()
    else {
        return;
    };
    spec.insert("serviceAccountName".to_owned(), name.clone());
    spec.insert("serviceAccount".to_owned(), name);
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set_default(container, "imagePullPolicy", policy);
    set_default(container, "resources", Map::new());
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    for port in maps_of(container, "ports") {
        set_default(port, "protocol", "TCP");
    }
    for variable in maps_of(container, "env") {
        variable
            .get_mut("valueFrom")
            .and_then(Value::as_object_mut)
            .into_iter()
            .for_each(references);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        map_of(container, field).into_iter().for_each(probe);
    }
    for hook in ["postStart", "preStop"] {
        map_of(container, "lifecycle")
            .and_then(|l| map_of(l, hook))
            .into_iter()
            .for_each(action);
    }
}

/// No tag, or `latest`, and no digest: the image may have changed since it was last pulled.
pub(crate) fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Map<String, Value>) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
            probe.insert(field.to_owned(), json!(value));
        }
    }
    action(probe);
}

fn action(handler: &mut Map<String, Value>) {
    if let Some(get) = map_of(handler, "httpGet") {
        set_default(get, "path", "/");
        set_default(get, "scheme", "HTTP");
    }
    if let Some(grpc) = map_of(handler, "grpc") {
        set_default(grpc, "service", "");
    }
}

fn references(source: &mut Map<String, Value>) {
    if let Some(field) = map_of(source, "fieldRef") {
        set_default(field, "apiVersion", "v1");
    }
    if let Some(resource) = map_of(source, "resourceFieldRef") {
        set_default(resource, "divisor", "0");
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = map_of(volume, kind) {
            set_default(source, "defaultMode", FILE_MODE);
            maps_of(source, "items").for_each(references);
            maps_of(source, "sources").for_each(projection);
        }
    }
    if let Some(host) = map_of(volume, "hostPath") {
        set_default(host, "type", "");
    }
}

fn projection(source: &mut Map<String, Value>) {
    if let Some(token) = map_of(source, "serviceAccountToken") {
        set_default(token, "expirationSeconds", TOKEN_SECONDS);
    }
    if let Some(downward) = map_of(source, "downwardAPI") {
        maps_of(downward, "items").for_each(references);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_what_may_have_moved() {
        let cases = [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("reg:5000/nginx", true),
            ("reg:5000/nginx:1", false),
            ("nginx@sha256:00", false),
        ];
        for (image, latest) in cases {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn applying_twice_is_applying_once() {
        let mut once = json!({"hostNetwork": true, "serviceAccount": "sa", "volumes": [{"name": "v"}, {"name": "s", "secret": {}}],
            "containers": [{"name": "c", "image": "a", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}}, "readinessProbe": {"httpGet": {"port": 80}}}]});
        pod(once.as_object_mut().expect("a map"));
        let mut twice = once.clone();
        pod(twice.as_object_mut().expect("a map"));
        assert_eq!(once, twice);
        assert_eq!(
            once["containers"][0]["resources"]["requests"],
            json!({"cpu": "1", "memory": "1Mi"})
        );
        assert_eq!(once["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(once["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(once["serviceAccountName"], "sa");
    }
}
