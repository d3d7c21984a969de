//! The dashboard in a real browser: `web-ui/tests` against the built binary, in a network namespace of its own.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use e2e::{Machine, binary, need_root};

/// What a skipped test lacks, if anything.
fn lacking(web_ui: &Path) -> Option<&'static str> {
    let browser = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if !web_ui.join("node_modules/.wherry").exists() || !web_ui.join("dist/index.html").exists() {
        return Some("scripts/web-ui.sh to have run, with Node.js 20.19 or newer");
    }
    (!Path::new(&browser).exists()).then_some("Chromium")
}

/// Runs one file of the browser's tests.
fn browse(file: &str) {
    let web_ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui");
    if let Some(what) = lacking(&web_ui) {
        eprintln!("SKIPPED: {} needs {what}", module_path!());
        return;
    }
    assert!(web_ui.join(file).is_file(), "there is no {file}");
    let machine = Machine::new();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command: Command = machine.command("npm");
    let status = command
        .args(["run", "--silent", "browser", "--", file])
        .current_dir(&web_ui)
        .env("WHERRY_BIN", binary())
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .status()
        .expect("npm starts");
    assert!(status.success(), "the browser's tests fail; see above");
}

#[test]
fn people_use_it_in_chromium() {
    need_root!();
    browse("tests/dashboard.test.ts");
}

#[test]
fn people_use_it_every_day() {
    need_root!();
    browse("tests/everyday.test.ts");
}

#[test]
fn people_bring_programs_and_come_from_issuers() {
    need_root!();
    browse("tests/programs.test.ts");
}

#[test]
fn the_first_load_is_small() {
    need_root!();
    browse("tests/size.test.ts");
}

/// What nobody runs shows nothing.
#[test]
fn no_file_is_forgotten() {
    let run = include_str!("dashboard.rs");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui/tests");
    for entry in std::fs::read_dir(tests).expect("the dashboard's tests") {
        let name = entry.expect("a file").file_name().to_string_lossy().into_owned();
        if name.ends_with(".test.ts") {
            assert!(run.contains(&format!("\"tests/{name}\"")), "{name} is run by no test");
        }
    }
}
