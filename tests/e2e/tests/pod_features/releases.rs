//! The same on each of the containerds that Debian has.

use super::*;

/// The same on every containerd; and what only newer ones have.
fn runs_on(release: Release) {
    if release.program().is_none() {
        eprintln!("SKIPPED: nobody said where the containerd of {release:?} is");
        return;
    }
    let mut cluster = cluster_of(release);
    let data = Image {
        files: vec![("text".to_owned(), "of an image".to_owned())],
        ..Image::default()
    };
    cluster.load_image(&data, "data:1");
    let web = container(
        "main",
        "mkdir /www; echo here > /www/index.html; exec httpd -f -p 8080 -h /www",
        "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}\n    resources: {limits: {memory: 64Mi}}",
    );
    cluster.apply(&pod("web", &format!("  containers:\n{web}"))).ok();
    let image = pod(
        "image",
        &format!(
            "  restartPolicy: Never\n  volumes: [{{name: data, image: {{reference: 'data:1', pullPolicy: Never}}}}]\n  containers:\n{}",
            container(
                "main",
                "cat /data/text; touch /data/no || echo read-only",
                "    volumeMounts: [{name: data, mountPath: /data}]"
            )
        ),
    );
    let found = ready(&cluster, "web");
    let ip = found["status"]["podIP"].as_str().expect("an address").to_owned();
    assert_eq!(cluster.curl(&format!("http://{ip}:8080/")).ok(), "here\n");
    assert_eq!(cluster.kubectl(&["exec", "web", "--", "echo", "hello"]).ok(), "hello\n");
    cluster.containerd().crash();
    cluster.containerd().up();
    cluster.crash();
    cluster.up();
    assert_eq!(
        ready(&cluster, "web")["status"]["containerStatuses"][0]["containerID"],
        found["status"]["containerStatuses"][0]["containerID"]
    );
    cluster.apply(&image).ok();
    if release == Release::Forky {
        has(&said(&cluster, "image"), &["of an image", "read-only"]);
    } else {
        // What it cannot do it says.
        until("why it does not start is told", SOON, || {
            let told = cluster.kubectl(&["describe", "pod", "image"]).stdout;
            match told.contains("Warning") && told.contains("image volume") {
                true => Ok(()),
                false => Err(told),
            }
        });
    }
    cluster.kubectl(&["delete", "pod", "--all", "--timeout=60s"]).ok();
    cluster.containerd().wait_empty(SOON);
}

#[test]
fn pods_run_on_containerd_1_6() {
    need_root!();
    runs_on(Release::Bookworm);
}

#[test]
fn pods_run_on_containerd_1_7() {
    need_root!();
    runs_on(Release::Trixie);
}

#[test]
fn pods_run_on_containerd_2() {
    need_root!();
    runs_on(Release::Forky);
}
