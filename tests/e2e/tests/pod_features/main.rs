//! What pods of containers ask of a node, each thing in a pod that looks whether it has it.

mod identity;
mod lifecycle;
mod releases;
mod resources;
mod services;
mod volumes;

use std::{net::UdpSocket, path::PathBuf, time::Duration};

use e2e::{Cluster, Options, Release, need_root, oci::Image, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(90);

fn cluster_of(release: Release) -> Cluster {
    let cluster = Cluster::start(Options {
        containerd: true,
        release,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
}

fn cluster() -> Cluster {
    cluster_of(Release::Bookworm)
}

/// A pod; `spec` are further lines of its spec, indented by two.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{spec}\n---\n"
    )
}

/// A container that runs a script; `more` are further lines of it, indented by four.
fn container(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\n', "\n      ");
    format!(
        "  - name: {name}\n    image: tools:1\n    imagePullPolicy: Never\n    command:\n    - sh\n    - -c\n    - |\n      \
         {script}\n{more}\n"
    )
}

fn phase(cluster: &Cluster, pod: &str, phase: &str) -> Value {
    until(&format!("{pod} is {phase}"), SOON, || {
        let found = cluster.get(&["pod", pod]);
        match found["status"]["phase"] == phase {
            true => Ok(found),
            false => Err(format!(
                "{}\n{}",
                found["status"],
                cluster.kubectl(&["describe", "pod", pod]).stdout
            )),
        }
    })
}

fn ready(cluster: &Cluster, pod: &str) -> Value {
    let at = format!("pod/{pod}");
    let waited = cluster.kubectl(&["wait", &at, "--for=condition=Ready", "--timeout=60s"]);
    assert!(waited.success, "{}", cluster.kubectl(&["describe", &at]).stdout);
    let found = cluster.get(&["pod", pod]);
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        assert!(
            condition["reason"].is_null() && condition["message"].is_null(),
            "{condition}"
        );
    }
    found
}

/// What a pod that ends well has said.
fn said(cluster: &Cluster, pod: &str) -> String {
    until(&format!("{pod} has ended"), SOON, || {
        let status = cluster.get(&["pod", pod])["status"].clone();
        match status["phase"].as_str() {
            Some("Succeeded" | "Failed") => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    let logs = cluster.kubectl(&["logs", pod]).stdout;
    let found = cluster.get(&["pod", pod]);
    assert_eq!(found["status"]["phase"], "Succeeded", "{logs}\n{}", found["status"]);
    logs
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
