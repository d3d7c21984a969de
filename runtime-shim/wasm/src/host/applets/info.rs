//! Applets about the container: `env`, `id`, `ps`, `hostname`, `pwd`, `date`, `echo`, `true`, `false`.

use jiff::{Timestamp, tz::TimeZone};

use super::{Failed, Streams, Surroundings};

type Done = Result<i32, Failed>;

pub(super) fn yes(_: &Surroundings, _: &[String], _: &mut Streams<'_>) -> Done {
    Ok(0)
}

pub(super) fn no(_: &Surroundings, _: &[String], _: &mut Streams<'_>) -> Done {
    Ok(1)
}

/// All variables, or those that are named; `env` runs no programs.
pub(super) fn env(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    if args.is_empty() {
        for (name, value) in &*around.env {
            writeln!(streams.stdout, "{name}={value}")?;
        }
        return Ok(0);
    }
    let mut code = 0;
    for wanted in args {
        match around.env.iter().find(|(name, _)| name == wanted) {
            Some((_, value)) => writeln!(streams.stdout, "{value}")?,
            None => code = 1,
        }
    }
    Ok(code)
}

pub(super) fn id(_: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, _) = super::options(args, "ugn")?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    match options.as_str() {
        "" => writeln!(streams.stdout, "uid={uid} gid={gid} groups={gid}")?,
        set if set.contains('u') => writeln!(streams.stdout, "{uid}")?,
        _ => writeln!(streams.stdout, "{gid}")?,
    }
    Ok(0)
}

pub(super) fn whoami(_: &Surroundings, _: &[String], streams: &mut Streams<'_>) -> Done {
    writeln!(streams.stdout, "{}", rustix::process::getuid().as_raw())?;
    Ok(0)
}

/// The guest is the one program there is, and has the number that a container's first program has.
pub(super) fn ps(around: &Surroundings, _: &[String], streams: &mut Streams<'_>) -> Done {
    writeln!(streams.stdout, "PID   COMMAND")?;
    for (index, program) in around.processes.iter().enumerate() {
        writeln!(streams.stdout, "{:>5} {program}", index + 1)?;
    }
    Ok(0)
}

pub(super) fn hostname(around: &Surroundings, _: &[String], streams: &mut Streams<'_>) -> Done {
    writeln!(streams.stdout, "{}", around.hostname)?;
    Ok(0)
}

pub(super) fn pwd(around: &Surroundings, _: &[String], streams: &mut Streams<'_>) -> Done {
    writeln!(streams.stdout, "{}", around.view.working_dir())?;
    Ok(0)
}

/// The time in UTC, in the usual form or, after a `+`, in one's own.
pub(super) fn date(_: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let format = match args.iter().find(|arg| *arg != "-u") {
        None => "%a %b %e %H:%M:%S UTC %Y",
        Some(format) => format
            .strip_prefix('+')
            .ok_or_else(|| Failed::Usage(format!("invalid date \"{format}\"")))?,
    };
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let text = jiff::fmt::strtime::format(format, &now).map_err(|error| Failed::Usage(error.to_string()))?;
    writeln!(streams.stdout, "{text}")?;
    Ok(0)
}

pub(super) fn echo(_: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (words, end) = match args.split_first() {
        Some((first, rest)) if first == "-n" => (rest, ""),
        _ => (args, "\n"),
    };
    write!(streams.stdout, "{}{end}", words.join(" "))?;
    Ok(0)
}
