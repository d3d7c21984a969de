//! Commands that `kubectl exec` runs in a Wasm container, whose image holds no programs of its own: small ones of ours, over
//! the container's own view. They run in the sandbox host, with its privileges of none, and see the guest's volumes,
//! environment and names, and nothing else.
//!
//! Deliberately absent: a shell, and everything that would act on the guest itself.

mod archive;
mod files;
mod info;
mod text;
mod view;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

pub(crate) use self::view::{Mount, View};

/// The exit code of what is not there, as shells have it.
const NOT_FOUND: i32 = 127;
/// The exit code of what is called wrongly.
const USAGE: i32 = 2;

/// What a command sees.
pub(crate) struct Surroundings {
    pub(crate) view: View,
    pub(crate) env: Arc<[(String, String)]>,
    pub(crate) hostname: String,
    /// The container's programs as `ps` lists them.
    pub(crate) processes: Vec<String>,
}

/// A command's streams.
pub(crate) struct Streams<'s> {
    pub(crate) stdin: &'s mut dyn Read,
    pub(crate) stdout: &'s mut dyn Write,
    pub(crate) stderr: &'s mut dyn Write,
}

type Applet = fn(&Surroundings, &[String], &mut Streams<'_>) -> Result<i32, Failed>;

const APPLETS: [(&str, Applet); 25] = [
    ("[", files::bracket),
    ("cat", text::cat),
    ("cp", files::cp),
    ("date", info::date),
    ("echo", info::echo),
    ("env", info::env),
    ("false", info::no),
    ("find", files::find),
    ("head", text::head),
    ("hostname", info::hostname),
    ("id", info::id),
    ("ls", files::ls),
    ("mkdir", files::mkdir),
    ("printenv", info::env),
    ("ps", info::ps),
    ("pwd", info::pwd),
    ("rm", files::rm),
    ("rmdir", files::rmdir),
    ("stat", files::stat),
    ("tail", text::tail),
    ("tar", archive::tar),
    ("test", files::test),
    ("true", info::yes),
    ("wc", text::wc),
    ("whoami", info::whoami),
];

/// Why an applet ended early; the rest is said by [`run`].
enum Failed {
    /// Called wrongly.
    Usage(String),
    /// Something was not done; the text names it.
    Because(String),
    /// Nobody reads its output any more.
    Output,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Failed::Output
    }
}

/// Runs a command to its end; its exit code.
pub(crate) fn run(around: &Surroundings, command: &[String], streams: &mut Streams<'_>) -> i32 {
    let Some((program, args)) = command.split_first() else {
        return USAGE;
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    let Some((_, applet)) = APPLETS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = APPLETS.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        let text = format!(
            "{program}: not found: a Wasm container has no shell and no programs of its own; there are {known}\n"
        );
        let _ = streams.stderr.write_all(text.as_bytes()); // nobody may read it
        return NOT_FOUND;
    };
    let result = applet(around, args, streams);
    let flushed = streams.stdout.flush();
    let (code, text) = match result {
        Ok(code) if flushed.is_ok() => return code,
        Ok(_) | Err(Failed::Output) => return 1,
        Err(Failed::Usage(text)) => (USAGE, text),
        Err(Failed::Because(text)) => (1, text),
    };
    let _ = streams.stderr.write_all(format!("{name}: {text}\n").as_bytes()); // nobody may read it
    code
}

/// Options of one letter each, in any order and together, and what follows them. `known` may take part in no other way.
fn options<'a>(args: &'a [String], known: &str) -> Result<(String, &'a [String]), Failed> {
    let mut set = String::new();
    let mut rest = args;
    while let Some((first, others)) = rest.split_first() {
        let Some(letters) = first.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest = others;
        if letters == "-" {
            break;
        }
        if let Some(unknown) = letters.chars().find(|letter| !known.contains(*letter)) {
            return Err(Failed::Usage(format!("unrecognized option: {unknown}")));
        }
        set.push_str(letters);
    }
    Ok((set, rest))
}

/// Says what could not be done with a path, and goes on with the next.
fn complain(streams: &mut Streams<'_>, applet: &str, path: &str, error: &io::Error) -> i32 {
    let text = format!("{applet}: {path}: {}\n", plain(error));
    let _ = streams.stderr.write_all(text.as_bytes()); // nobody may read it
    1
}

/// An error in the words of the C library, where it is one of the kernel's.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_some() => "Permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "Not a directory".to_owned(),
        io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        io::ErrorKind::DirectoryNotEmpty => "Directory not empty".to_owned(),
        io::ErrorKind::AlreadyExists => "File exists".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "Read-only file system".to_owned(),
        io::ErrorKind::CrossesDevices => "leads out of the volume".to_owned(),
        _ => error.to_string(),
    }
}

/// A path below another.
fn below(directory: &str, name: &str) -> String {
    match directory.ends_with('/') {
        true => format!("{directory}{name}"),
        false => format!("{directory}/{name}"),
    }
}
