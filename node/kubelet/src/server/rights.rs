//! Which right a request to the kubelet API needs: a verb on a subresource of the node, coarse (`nodes/proxy`) or fine
//! (KEP-2862). Pure.

use axum::http::Method;

/// What a request does to a subresource. To enter a container is to act, also by the GET of a WebSocket.
pub(super) fn verb(method: &Method, path: &str) -> &'static str {
    if matches!(first(path), "exec" | "attach" | "portForward" | "run") {
        return "create";
    }
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The subresources of which one is enough. What leads into containers, or is not known, takes `proxy`.
pub(super) fn subresources(path: &str) -> &'static [&'static str] {
    match first(path) {
        "stats" | "history" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "spec" => &["spec"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

fn first(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_rights_are_enough_and_coarse_ones_lead_everywhere_else() {
        let cases: [(&str, &[&str]); 10] = [
            ("/stats/summary", &["stats"]),
            ("/history/ns/pod", &["stats"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/exec/ns/pod/container", &["proxy"]),
            ("/containerLogs/ns/pod/container", &["proxy"]),
            ("//exec/ns/pod/pods", &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn who_may_only_look_may_not_enter() {
        assert_eq!(verb(&Method::GET, "/exec/ns/pod/container"), "create");
        assert_eq!(verb(&Method::GET, "/pods"), "get");
        assert_eq!(verb(&Method::OPTIONS, "/pods"), "");
    }
}
