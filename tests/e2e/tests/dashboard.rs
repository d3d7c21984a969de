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

#[test]
fn people_use_it_in_chromium() {
    need_root!();
    let web_ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web-ui");
    if let Some(what) = lacking(&web_ui) {
        eprintln!("SKIPPED: {} needs {what}", module_path!());
        return;
    }
    let machine = Machine::new();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command: Command = machine.command("npm");
    let status = command
        .args(["run", "--silent", "browser"])
        .current_dir(&web_ui)
        .env("WHERRY_BIN", binary())
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .status()
        .expect("npm starts");
    assert!(status.success(), "the browser's tests fail; see above");
}
