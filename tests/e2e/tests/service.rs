//! Wherry as a service: installed, watched by a service manager, and fit for scripts.

use std::{
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::Command,
    time::Duration,
};

use e2e::{Cluster, Options, binary, control_plane, need_root, run};

fn install(image: &Path, data: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args([
            "up",
            "--install",
            "--data-dir",
            data,
            "--api-bind",
            "127.0.0.1:7443",
            "--install-root",
        ])
        .arg(image);
    command
}

fn file(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn installs_a_service_that_systemd_accepts_and_removes_it_again() {
    need_root!();
    let image = tempfile::tempdir().expect("a directory");
    let said = run(&mut install(image.path(), "/var/lib/wherry"), "").ok();
    let (program, unit) = (
        image.path().join("usr/local/bin/wherry"),
        image.path().join("etc/systemd/system/wherry.service"),
    );
    for path in [&program, &unit] {
        assert!(said.contains(&format!("installed {}\n", path.display())), "{said}");
    }
    assert_eq!(
        program.metadata().expect("the program").permissions().mode() & 0o777,
        0o755
    );
    let start = "ExecStart=/usr/local/bin/wherry up --data-dir /var/lib/wherry --api-bind 127.0.0.1:7443\n";
    assert!(file(&unit).contains(start), "{}", file(&unit));
    // What every machine with systemd has, so that the unit's dependencies are found.
    let units = image.path().join("lib/systemd");
    std::fs::create_dir_all(&units).expect("a directory");
    run(Command::new("cp").args(["-a", "/lib/systemd/system"]).arg(&units), "").ok();
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no", "wherry.service", "--root"])
        .arg(image.path());
    let verified = run(&mut verify, "");
    assert!(verified.success && verified.stderr.is_empty(), "{verified:?}");

    let mut down = Command::new(binary());
    down.args(["down", "--uninstall", "--data-dir", "/var/lib/wherry", "--install-root"])
        .arg(image.path());
    run(&mut down, "").ok();
    assert!(!program.exists() && !unit.exists());
    let said = run(&mut down, "").err();
    assert!(said.contains("wherry.service is not installed"), "{said}");
}

#[test]
fn a_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    need_root!();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a deadline");
    let hear = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).expect("the manager is told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut cluster = Cluster::start(Options {
        environment: vec![("NOTIFY_SOCKET".into(), path.display().to_string())],
        ..control_plane()
    });
    assert!(hear().starts_with("READY=1\n"));
    assert!(cluster.stop(), "SIGTERM is a good end");
    assert!(hear().starts_with("STOPPING=1\n"));
}

#[test]
fn log_lines_are_json_where_asked() {
    need_root!();
    let cluster = Cluster::start(Options {
        arguments: ["--no-node", "--log-format", "json"].map(str::to_owned).into(),
        ..Options::default()
    });
    let log = cluster.log_text();
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            entry["timestamp"].is_string() && entry["level"].is_string() && entry["fields"].is_object(),
            "{line}"
        );
    }
}

#[test]
fn scripts_learn_by_the_exit_code_and_by_stdout() {
    let wherry = |words: &[&str]| run(Command::new(binary()).args(words), "");
    let version = wherry(&["version"]).ok();
    let facts: Vec<&str> = version
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(facts, ["wherry", "kubernetes", "build"], "{version}");
    for (words, code) in [
        (["down", "--data-dir", "/nonexistent"].as_slice(), 1),
        (&["up", "--no-such-flag"], 2),
        (&["up", "--service-node-port-range", "90-80"], 2),
        (&["up", "--install-root", "/image"], 2),
    ] {
        let output = wherry(words);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(code), ""),
            "{words:?}: {output:?}"
        );
    }
}

#[test]
fn shells_complete_the_command_line() {
    let script = run(Command::new(binary()).args(["completion", "bash"]), "").ok();
    let ask = format!(
        "{script}\nCOMP_WORDS=(wherry up --api); COMP_CWORD=2; _wherry wherry --api up; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(
        run(Command::new("bash").args(["-c", &ask]), "").ok().trim(),
        "--api-bind"
    );
}
