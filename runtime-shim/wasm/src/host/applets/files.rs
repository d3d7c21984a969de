//! Applets about files: `ls`, `stat`, `find`, `test`, `mkdir`, `rm`, `rmdir`, `cp`.

use std::io;

use jiff::Timestamp;

use super::{
    Failed, Streams, Surroundings, below, complain, options, plain,
    view::{Kind, Known, View},
};

type Done = Result<i32, Failed>;

/// How deep directories are followed.
const DEPTH: usize = 128;

fn because(path: &str, error: &io::Error) -> Failed {
    Failed::Because(format!("{path}: {}", plain(error)))
}

pub(super) fn ls(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, paths) = options(args, "la1ARdhn")?;
    let here = [".".to_owned()];
    let paths = if paths.is_empty() { &here } else { paths };
    let mut code = 0;
    for (index, path) in paths.iter().enumerate() {
        let known = match around.view.stat(path, !options.contains('l')) {
            Ok(known) => known,
            Err(error) => {
                code = complain(streams, "ls", path, &error);
                continue;
            }
        };
        if known.kind != Kind::Directory || options.contains('d') {
            line(&around.view, path, path, &known, &options, streams)?;
            continue;
        }
        if paths.len() > 1 && !options.contains('R') {
            writeln!(streams.stdout, "{}{path}:", if index > 0 { "\n" } else { "" })?;
        }
        code |= list(&around.view, path, &options, streams, 0)?;
    }
    Ok(code)
}

fn list(view: &View, path: &str, options: &str, streams: &mut Streams<'_>, depth: usize) -> Done {
    let names = match view.entries(path) {
        Ok(names) => names,
        Err(error) => return Ok(complain(streams, "ls", path, &error)),
    };
    if options.contains('R') {
        writeln!(streams.stdout, "{}{path}:", if depth > 0 { "\n" } else { "" })?;
    }
    let hidden = options.contains('a') || options.contains('A');
    let mut directories = Vec::new();
    let mut code = 0;
    for name in names.iter().filter(|name| hidden || !name.starts_with('.')) {
        let whole = below(path, name);
        match view.stat(&whole, false) {
            Ok(known) => {
                line(view, name, &whole, &known, options, streams)?;
                if known.kind == Kind::Directory {
                    directories.push(whole);
                }
            }
            Err(error) => code = complain(streams, "ls", &whole, &error),
        }
    }
    if options.contains('R') && depth < DEPTH {
        for directory in directories {
            code |= list(view, &directory, options, streams, depth + 1)?;
        }
    }
    Ok(code)
}

fn line(
    view: &View,
    name: &str,
    path: &str,
    known: &Known,
    options: &str,
    streams: &mut Streams<'_>,
) -> io::Result<()> {
    if !options.contains('l') {
        return writeln!(streams.stdout, "{name}");
    }
    let target = match known.kind {
        Kind::Link => view
            .link(path)
            .map(|target| format!(" -> {target}"))
            .unwrap_or_default(),
        _ => String::new(),
    };
    let Known {
        links, uid, gid, size, ..
    } = known;
    let (mode, time) = (mode(known), time(known.modified));
    writeln!(
        streams.stdout,
        "{mode} {links:>4} {uid:<8} {gid:<8} {size:>9} {time} {name}{target}"
    )
}

fn time(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// As `ls -l` shows it: `drwxr-xr-x`.
fn mode(known: &Known) -> String {
    let kind = match known.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(index, letter)| {
        if known.mode & (0o400 >> index) != 0 {
            letter
        } else {
            '-'
        }
    });
    std::iter::once(kind).chain(bits).collect()
}

pub(super) fn stat(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, paths) = options(args, "L")?;
    if paths.is_empty() {
        return Err(Failed::Usage("missing operand".to_owned()));
    }
    let mut code = 0;
    for path in paths {
        match around.view.stat(path, options.contains('L')) {
            Ok(known) => {
                let kind = match known.kind {
                    Kind::File => "regular file",
                    Kind::Directory => "directory",
                    Kind::Link => "symbolic link",
                    Kind::Other => "special file",
                };
                writeln!(streams.stdout, "  File: {path}\n  Size: {:<10} {kind}", known.size)?;
                writeln!(streams.stdout, "Inode: {:<10} Links: {}", known.inode, known.links)?;
                writeln!(
                    streams.stdout,
                    "Access: ({:04o}/{})  Uid: {}  Gid: {}\nModify: {}",
                    known.mode,
                    mode(&known),
                    known.uid,
                    known.gid,
                    Timestamp::from_second(known.modified).unwrap_or_default(),
                )?;
            }
            Err(error) => code = complain(streams, "stat", path, &error),
        }
    }
    Ok(code)
}

/// What `find` looks for.
#[derive(Default)]
struct Wanted<'a> {
    name: Option<&'a str>,
    kind: Option<Kind>,
    depth: Option<usize>,
}

pub(super) fn find(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let first = args.iter().position(|arg| arg.starts_with('-')).unwrap_or(args.len());
    let (paths, tests) = args.split_at(first);
    let mut wanted = Wanted::default();
    let mut tests = tests.iter().map(String::as_str);
    while let Some(test) = tests.next() {
        match (test, tests.next()) {
            ("-print", None) => {}
            ("-name", Some(pattern)) => wanted.name = Some(pattern),
            ("-type", Some("f")) => wanted.kind = Some(Kind::File),
            ("-type", Some("d")) => wanted.kind = Some(Kind::Directory),
            ("-type", Some("l")) => wanted.kind = Some(Kind::Link),
            ("-maxdepth", Some(depth)) if depth.parse::<usize>().is_ok() => wanted.depth = depth.parse().ok(),
            _ => {
                return Err(Failed::Usage(format!(
                    "{test}: only -name, -type f|d|l and -maxdepth are known here"
                )));
            }
        }
    }
    let here = [".".to_owned()];
    let paths = if paths.is_empty() { &here } else { paths };
    let mut code = 0;
    for path in paths {
        code |= look(&around.view, path, &wanted, streams, 0)?;
    }
    Ok(code)
}

fn look(view: &View, path: &str, wanted: &Wanted<'_>, streams: &mut Streams<'_>, depth: usize) -> Done {
    let known = match view.stat(path, false) {
        Ok(known) => known,
        Err(error) => return Ok(complain(streams, "find", path, &error)),
    };
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    let named = wanted
        .name
        .is_none_or(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
    if named && wanted.kind.is_none_or(|kind| kind == known.kind) {
        writeln!(streams.stdout, "{path}")?;
    }
    if known.kind != Kind::Directory || depth >= wanted.depth.unwrap_or(DEPTH).min(DEPTH) {
        return Ok(0);
    }
    match view.entries(path) {
        Ok(names) => {
            let mut code = 0;
            for name in names {
                code |= look(view, &below(path, &name), wanted, streams, depth + 1)?;
            }
            Ok(code)
        }
        Err(error) => Ok(complain(streams, "find", path, &error)),
    }
}

/// Whether a name fits a pattern with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // What to go back to when a star has taken too little.
    let mut back: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut name) = (pattern, name);
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', rest)), _) => {
                back = Some((rest, name));
                pattern = rest;
            }
            (Some((wanted, rest)), Some((found, others))) if *wanted == b'?' || wanted == found => {
                (pattern, name) = (rest, others);
            }
            (None, None) => return true,
            _ => match back {
                Some((after, [_, longer @ ..])) => {
                    back = Some((after, longer));
                    (pattern, name) = (after, longer);
                }
                _ => return false,
            },
        }
    }
}

pub(super) fn bracket(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    match args.split_last() {
        Some((last, args)) if last == "]" => test(around, args, streams),
        _ => Err(Failed::Usage("missing ]".to_owned())),
    }
}

pub(super) fn test(around: &Surroundings, args: &[String], _: &mut Streams<'_>) -> Done {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (negated, words) = match words.as_slice() {
        ["!", rest @ ..] => (true, rest),
        all => (false, all),
    };
    let known = |path: &str| around.view.stat(path, true).ok();
    let holds = match words {
        [] => false,
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e" | "-r", path] => known(path).is_some(),
        ["-d", path] => known(path).is_some_and(|known| known.kind == Kind::Directory),
        ["-f", path] => known(path).is_some_and(|known| known.kind == Kind::File),
        ["-s", path] => known(path).is_some_and(|known| known.size > 0),
        ["-L" | "-h", path] => around
            .view
            .stat(path, false)
            .is_ok_and(|known| known.kind == Kind::Link),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        _ => return Err(Failed::Usage("what is to be tested is not known here".to_owned())),
    };
    Ok(i32::from(holds == negated))
}

pub(super) fn mkdir(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, paths) = options(args, "p")?;
    if paths.is_empty() {
        return Err(Failed::Usage("missing operand".to_owned()));
    }
    let mut code = 0;
    for path in paths {
        let made = match options.contains('p') {
            true => make_all(&around.view, path),
            false => around.view.make_directory(path),
        };
        if let Err(error) = made {
            code = complain(streams, "mkdir", path, &error);
        }
    }
    Ok(code)
}

/// Makes a directory and those above it; what is there already is well.
pub(super) fn make_all(view: &View, path: &str) -> io::Result<()> {
    let is_directory = |path: &str| view.stat(path, true).is_ok_and(|known| known.kind == Kind::Directory);
    let mut above = match path.starts_with('/') {
        true => "/".to_owned(),
        false => String::new(),
    };
    for part in path.split('/').filter(|part| !part.is_empty()) {
        above = match above.is_empty() {
            true => part.to_owned(),
            false => below(&above, part),
        };
        if !is_directory(&above) {
            view.make_directory(&above)?;
        }
    }
    Ok(())
}

pub(super) fn rmdir(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let mut code = 0;
    for path in args {
        if let Err(error) = around.view.remove(path, true) {
            code = complain(streams, "rmdir", path, &error);
        }
    }
    Ok(code)
}

pub(super) fn rm(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, paths) = options(args, "rRf")?;
    let (all, force) = (options.contains(['r', 'R']), options.contains('f'));
    if paths.is_empty() && !force {
        return Err(Failed::Usage("missing operand".to_owned()));
    }
    let mut code = 0;
    for path in paths {
        match remove(&around.view, path, all, 0) {
            Err(error) if force && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => code = complain(streams, "rm", path, &error),
            Ok(()) => {}
        }
    }
    Ok(code)
}

/// Removes; what links point to stays.
fn remove(view: &View, path: &str, all: bool, depth: usize) -> io::Result<()> {
    let directory = view.stat(path, false)?.kind == Kind::Directory;
    if directory && !all {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if directory && depth < DEPTH {
        for name in view.entries(path)? {
            remove(view, &below(path, &name), all, depth + 1)?;
        }
    }
    view.remove(path, directory)
}

pub(super) fn cp(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, paths) = options(args, "rRa")?;
    let all = options.contains(['r', 'R', 'a']);
    let Some((to, from)) = paths.split_last().filter(|(_, from)| !from.is_empty()) else {
        return Err(Failed::Usage("cp takes a source and a destination".to_owned()));
    };
    let view = &around.view;
    let into = view.stat(to, true).is_ok_and(|known| known.kind == Kind::Directory);
    if from.len() > 1 && !into {
        return Err(because(to, &io::ErrorKind::NotADirectory.into()));
    }
    let mut code = 0;
    for path in from {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        let target = if into { below(to, name) } else { to.clone() };
        if let Err(error) = copy(view, path, &target, all, 0) {
            code = complain(streams, "cp", path, &error);
        }
    }
    Ok(code)
}

fn copy(view: &View, from: &str, to: &str, all: bool, depth: usize) -> io::Result<()> {
    let known = view.stat(from, depth == 0)?;
    match known.kind {
        Kind::Directory if all && depth < DEPTH => {
            // Before the target is there, which may be below.
            let names = view.entries(from)?;
            match view.make_directory(to) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            for name in names {
                copy(view, &below(from, &name), &below(to, &name), all, depth + 1)?;
            }
            Ok(())
        }
        Kind::Directory => Err(io::ErrorKind::IsADirectory.into()),
        Kind::Link => view.make_link(to, &view.link(from)?),
        Kind::File => {
            let same = view
                .stat(to, true)
                .is_ok_and(|other| other.inode == known.inode && other.inode != 0);
            if same {
                return Err(io::Error::other("source and destination are the same file"));
            }
            let mut source = view.open(from)?;
            let mut target = view.create(to, known.mode)?;
            io::copy(&mut source, &mut target).map(|_| ())
        }
        Kind::Other => Err(io::Error::other("neither a file nor a directory")),
    }
}
