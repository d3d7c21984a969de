//! `wherry up --install` and `wherry down --uninstall`: this program as a service of the machine, or of its user.
//!
//! The program is copied to where services expect it and a systemd unit is written; where systemd runs, it is told and
//! starts the service. Everything can be repeated: installing again with a newer program is the upgrade.

mod unit;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use self::unit::Unit;
use crate::{cli, datadir, machine};

/// Whose service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The machine's: root.
    System,
    /// That of the user who runs this.
    User,
}

impl Scope {
    /// The scope of whoever runs this process.
    pub(crate) fn ours() -> Self {
        match machine::is_root() {
            true => Self::System,
            false => Self::User,
        }
    }
}

/// Where the parts of a service lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    scope: Scope,
    /// As the unit names the program.
    binary: PathBuf,
    /// Where both files are written: below another root than `/`, for an image of a machine.
    written_binary: PathBuf,
    written_unit: PathBuf,
    unit_name: String,
    /// Nothing is started in an image.
    in_image: bool,
}

impl Places {
    /// The places for a data directory, below `root` if one is given.
    pub(crate) fn of(scope: Scope, data_dir: &Path, root: Option<&Path>) -> Self {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
        let settings = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
        let (programs, units) = match scope {
            Scope::System => (PathBuf::from("/usr/local/bin"), PathBuf::from("/etc/systemd/system")),
            Scope::User => (
                home.join(".local/bin"),
                settings
                    .map_or_else(|| home.join(".config"), PathBuf::from)
                    .join("systemd/user"),
            ),
        };
        let unit_name = unit::name(&machine::cluster_id(data_dir), data_dir == cli::default_directory());
        let binary = programs.join("wherry");
        Self {
            scope,
            written_binary: below(root, &binary),
            written_unit: below(root, &units.join(&unit_name)),
            binary,
            unit_name,
            in_image: root.is_some(),
        }
    }

    /// Other services of this program keep it installed.
    fn others(&self) -> bool {
        let units = self.written_unit.parent().map(fs::read_dir);
        let names = units
            .into_iter()
            .flatten()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        let mut names = names.filter_map(|name| name.into_string().ok());
        names.any(|name| name.starts_with("wherry") && name.ends_with(".service") && name != self.unit_name)
    }

    fn systemctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        if self.scope == Scope::User {
            command.arg("--user");
        }
        command.args(words);
        command
    }

    /// The process that systemd started for the unit.
    fn service_pid(&self) -> Option<i32> {
        let shown = self
            .systemctl(&["show", "--property=MainPID", "--value", &self.unit_name])
            .output()
            .ok()?;
        String::from_utf8(shown.stdout).ok()?.trim().parse().ok()
    }
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

/// Installs the service of a data directory and starts it. `words` is the command line after `wherry`.
pub(crate) fn install(data_dir: &Path, root: Option<&Path>, words: &[String]) -> anyhow::Result<()> {
    let places = Places::of(Scope::ours(), data_dir, root);
    let starts = !places.in_image && systemd_runs();
    if starts {
        refuse_other_holder(&places, data_dir)?;
    }
    let unit = Unit {
        scope: places.scope,
        binary: &places.binary,
        words,
    };
    copy_program(&places.written_binary)?;
    replace(&places.written_unit, unit.text().as_bytes(), 0o644)?;
    cli::say(&format!("installed {}", places.written_binary.display()));
    cli::say(&format!("installed {}", places.written_unit.display()));
    match starts {
        true => start(&places, data_dir),
        false => {
            cli::say(&not_started(&places, &unit));
            Ok(())
        }
    }
}

fn start(places: &Places, data_dir: &Path) -> anyhow::Result<()> {
    call(places.systemctl(&["daemon-reload"]))?;
    call(places.systemctl(&["enable", "--quiet", &places.unit_name]))?;
    // Restarted where it ran: the new program adopts the workloads. systemd answers when the service is ready.
    call(places.systemctl(&["restart", &places.unit_name])).with_context(|| {
        format!(
            "the service did not start; see: journalctl {}-u {}",
            user_flag(places.scope),
            places.unit_name
        )
    })?;
    cli::say(&format!(
        "{} runs; kubeconfig: {}",
        places.unit_name,
        data_dir.join("kubeconfig").display()
    ));
    if places.scope == Scope::User {
        cli::say("to keep it running while you are logged out: loginctl enable-linger");
    }
    Ok(())
}

fn user_flag(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "",
        Scope::User => "--user ",
    }
}

/// What to do where nothing was started.
fn not_started(places: &Places, unit: &Unit<'_>) -> String {
    if places.in_image {
        return format!(
            "enable it in the image with: systemctl --root=DIR enable {}",
            places.unit_name
        );
    }
    format!(
        "systemd does not run here; have another supervisor run, and restart:\n  {}\n\
         It prints `ready` (or tells NOTIFY_SOCKET), ends on SIGTERM, and leaves the workloads running.",
        unit.command()
    )
}

/// A `wherry up` that was started by hand would make the service fail.
fn refuse_other_holder(places: &Places, data_dir: &Path) -> anyhow::Result<()> {
    let holder = match datadir::require_cluster(data_dir) {
        Ok(()) => datadir::holder(data_dir)?,
        Err(_) => None,
    };
    match holder {
        Some(pid) if places.service_pid() != Some(pid) => bail!(
            "another wherry (pid {pid}) runs on {}; end it with: kill {pid} (its workloads keep running, and the service \
             takes them over)",
            data_dir.display()
        ),
        _ => Ok(()),
    }
}

/// Stops the service of a data directory, so that nothing starts it again.
pub(crate) fn stop(places: &Places) -> anyhow::Result<()> {
    if places.in_image || !systemd_runs() || !places.written_unit.exists() {
        return Ok(());
    }
    call(places.systemctl(&["disable", "--quiet", "--now", &places.unit_name]))
}

/// Removes what [`install`] has written. The data stays.
pub(crate) fn uninstall(places: &Places) -> anyhow::Result<()> {
    if !places.written_unit.exists() {
        bail!(
            "{} is not installed ({})",
            places.unit_name,
            places.written_unit.display()
        );
    }
    remove(&places.written_unit)?;
    if !places.others() {
        remove(&places.written_binary)?;
    }
    if !places.in_image && systemd_runs() {
        call(places.systemctl(&["daemon-reload"]))?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        Ok(()) => {
            cli::say(&format!("removed {}", path.display()));
            Ok(())
        }
    }
}

/// Copies this program. One that is the same file already stays.
fn copy_program(to: &Path) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot find our own program")?;
    if fs::canonicalize(to).is_ok_and(|there| there == own) {
        return Ok(());
    }
    let program = fs::read(&own).with_context(|| format!("cannot read {}", own.display()))?;
    replace(to, &program, 0o755)
}

/// Replaces a file at once: a program that runs keeps its old one, and a crash leaves one or the other.
fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let parent = path.parent().context("a file lies in a directory")?;
    let write = || {
        fs::create_dir_all(parent)?;
        let temporary = path.with_added_extension("new");
        fs::write(&temporary, content)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// sd_booted(3).
fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn call(mut command: Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("{shown} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_where_services_of_root_and_of_users_are_looked_for() {
        let places = Places::of(Scope::System, Path::new("/srv/other"), Some(Path::new("/image")));
        assert_eq!(places.binary, Path::new("/usr/local/bin/wherry"));
        assert_eq!(places.written_binary, Path::new("/image/usr/local/bin/wherry"));
        assert_eq!(
            places.written_unit,
            Path::new("/image/etc/systemd/system").join(&places.unit_name)
        );
        assert_ne!(places.unit_name, "wherry.service");
        let places = Places::of(Scope::User, &cli::default_directory(), None);
        assert!(
            places.written_unit.ends_with("systemd/user/wherry.service"),
            "{places:?}"
        );
    }

    #[test]
    fn the_program_stays_while_another_service_needs_it() {
        let image = tempfile::tempdir().unwrap();
        let install = |data: &str| {
            install(Path::new(data), Some(image.path()), &["up".to_owned()]).unwrap();
            Places::of(Scope::ours(), Path::new(data), Some(image.path()))
        };
        let (one, two) = (install("/srv/one"), install("/srv/two"));
        install("/srv/two");
        uninstall(&one).unwrap();
        assert!(two.written_binary.exists() && !one.written_unit.exists());
        uninstall(&two).unwrap();
        assert!(!two.written_binary.exists());
        assert!(uninstall(&two).is_err());
    }
}
