//! `tar`, as `kubectl cp` calls it: `tar cf - PATH…` and `tar xmf - -C DIRECTORY`.
//!
//! What is unpacked stays in the directory: entries whose names lead out of it are refused, entries are never written
//! through links, and below the volume's root the kernel itself would not let them out ([`super::view`]).

use std::io::{self, Read, Write};

use tar::{Archive, Builder, EntryType, Header};

use super::{
    Failed, Streams, Surroundings, below, files,
    view::{Kind, Known, View},
};

/// How deep directories are followed.
const DEPTH: usize = 128;

/// What is asked for.
#[derive(Default)]
struct Asked {
    create: bool,
    extract: bool,
    list: bool,
    verbose: bool,
    /// `-` or nothing: stdin or stdout.
    file: Option<String>,
    directory: Option<String>,
    paths: Vec<String>,
}

/// Options that change nothing here: nothing but files, directories and links is unpacked, with no owner and few modes.
const WITHOUT_EFFECT: [&str; 6] = [
    "--no-same-permissions",
    "--no-same-owner",
    "--no-overwrite-dir",
    "--warning=no-unknown-keyword",
    "--numeric-owner",
    "--",
];

impl Asked {
    fn parse(args: &[String]) -> Result<Self, Failed> {
        let mut asked = Self::default();
        let mut args = args.iter().map(String::as_str);
        let mut first = true;
        while let Some(arg) = args.next() {
            let bundle = match arg.strip_prefix('-') {
                Some(letters) if !letters.is_empty() && !letters.starts_with('-') => Some(letters),
                None if first => Some(arg),
                _ => None,
            };
            first = first && arg.starts_with("--");
            match bundle {
                Some(letters) => asked.letters(letters, &mut args)?,
                None if WITHOUT_EFFECT.contains(&arg) => {}
                None if arg.starts_with("--") => return Err(Failed::Usage(format!("unrecognized option: {arg}"))),
                None => asked.paths.push(arg.to_owned()),
            }
        }
        match [asked.create, asked.extract, asked.list]
            .iter()
            .filter(|set| **set)
            .count()
        {
            1 => Ok(asked),
            _ => Err(Failed::Usage("one of c, x and t must be given".to_owned())),
        }
    }

    fn letters<'a>(&mut self, letters: &str, args: &mut impl Iterator<Item = &'a str>) -> Result<(), Failed> {
        let mut next = |letter| {
            let value = args.next().map(str::to_owned);
            value.ok_or_else(|| Failed::Usage(format!("option {letter} needs an argument")))
        };
        for letter in letters.chars() {
            match letter {
                'c' => self.create = true,
                'x' => self.extract = true,
                't' => self.list = true,
                'v' => self.verbose = true,
                'f' => self.file = Some(next('f')?).filter(|file| file != "-"),
                'C' => self.directory = Some(next('C')?),
                'm' | 'p' | 'o' | 'h' => {}
                other => return Err(Failed::Usage(format!("unrecognized option: {other}"))),
            }
        }
        Ok(())
    }
}

pub(super) fn tar(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Result<i32, Failed> {
    let asked = Asked::parse(args)?;
    let failed = |path: &str, error: &io::Error| Failed::Because(format!("{path}: {}", super::plain(error)));
    let view = match &asked.directory {
        Some(directory) => around.view.at(directory).map_err(|error| failed(directory, &error))?,
        None => around.view.clone(),
    };
    match (&asked.file, asked.create) {
        (None, true) => create(&view, &asked, &mut *streams.stdout, &mut *streams.stderr),
        (Some(path), true) => {
            let file = around.view.create(path, 0o644).map_err(|error| failed(path, &error))?;
            create(&view, &asked, file, &mut *streams.stderr)
        }
        (None, false) => read(
            &view,
            &asked,
            &mut *streams.stdin,
            &mut *streams.stdout,
            &mut *streams.stderr,
        ),
        (Some(path), false) => {
            let file = around.view.open(path).map_err(|error| failed(path, &error))?;
            read(&view, &asked, file, &mut *streams.stdout, &mut *streams.stderr)
        }
    }
}

fn create(view: &View, asked: &Asked, out: impl Write, stderr: &mut dyn Write) -> Result<i32, Failed> {
    if asked.paths.is_empty() {
        return Err(Failed::Usage("an empty archive is not made".to_owned()));
    }
    let mut builder = Builder::new(out);
    let mut code = 0;
    for path in &asked.paths {
        code |= add(view, path, asked.verbose, &mut builder, stderr, 0)?;
    }
    builder.into_inner()?.flush()?;
    Ok(code)
}

fn add(
    view: &View,
    path: &str,
    verbose: bool,
    builder: &mut Builder<impl Write>,
    stderr: &mut dyn Write,
    depth: usize,
) -> Result<i32, Failed> {
    let known = match view.stat(path, false) {
        Ok(known) => known,
        Err(error) => return Ok(complain(stderr, path, &error)),
    };
    // As every tar does: what is unpacked elsewhere must not lead to the root.
    let name = path.trim_start_matches('/');
    let name = if name.is_empty() { "." } else { name };
    let mut header = header(&known);
    match known.kind {
        Kind::File => {
            let file = match view.open(path) {
                Ok(file) => file,
                Err(error) => return Ok(complain(stderr, path, &error)),
            };
            header.set_entry_type(EntryType::Regular);
            header.set_size(known.size);
            // The size has been promised: a file that shrinks meanwhile is filled up.
            let content = file.chain(io::repeat(0)).take(known.size);
            builder.append_data(&mut header, name, content)?;
        }
        Kind::Link => {
            let target = match view.link(path) {
                Ok(target) => target,
                Err(error) => return Ok(complain(stderr, path, &error)),
            };
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target)?;
        }
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            let name = format!("{}/", name.trim_end_matches('/'));
            builder.append_data(&mut header, name, io::empty())?;
        }
        Kind::Other => {
            return Ok(complain(
                stderr,
                path,
                &io::Error::other("neither a file nor a directory: left out"),
            ));
        }
    }
    if verbose {
        let _ = writeln!(stderr, "{name}"); // nobody may read it
    }
    if known.kind != Kind::Directory || depth >= DEPTH {
        return Ok(0);
    }
    let names = match view.entries(path) {
        Ok(names) => names,
        Err(error) => return Ok(complain(stderr, path, &error)),
    };
    let mut code = 0;
    for name in names {
        code |= add(view, &below(path, &name), verbose, builder, stderr, depth + 1)?;
    }
    Ok(code)
}

/// Only what cannot be written ends an archive; what cannot be read is said, and left out.
fn complain(stderr: &mut dyn Write, path: &str, error: &io::Error) -> i32 {
    let _ = writeln!(stderr, "tar: {path}: {}", super::plain(error)); // nobody may read it
    1
}

fn header(known: &Known) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(known.mode);
    header.set_uid(known.uid.into());
    header.set_gid(known.gid.into());
    header.set_mtime(u64::try_from(known.modified).unwrap_or_default());
    header
}

fn read(
    view: &View,
    asked: &Asked,
    from: impl Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<i32, Failed> {
    let mut archive = Archive::new(from);
    let bad = |error: io::Error| Failed::Because(format!("this is no tar archive, or it was cut short: {error}"));
    let mut code = 0;
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wanted = |path: &String| name == *path || name.starts_with(&below(path, ""));
        if !asked.paths.is_empty() && !asked.paths.iter().any(wanted) {
            continue;
        }
        if asked.list || asked.verbose {
            writeln!(stdout, "{name}")?;
        }
        if asked.list {
            continue;
        }
        if let Err(error) = unpack(view, &name, &mut entry) {
            let _ = writeln!(stderr, "tar: {name}: {}", super::plain(&error)); // nobody may read it
            code = 1;
        }
    }
    Ok(code)
}

fn unpack(view: &View, name: &str, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
    let name = name.trim_end_matches('/');
    let denied = |why: &str| io::Error::other(why.to_owned());
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return Err(denied("leads out of the directory: refused"));
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let Some((_, above)) = parts.split_last() else {
        return Ok(()); // the directory itself
    };
    let mut so_far = String::new();
    for part in above {
        so_far = if so_far.is_empty() {
            (*part).to_owned()
        } else {
            below(&so_far, part)
        };
        match view.stat(&so_far, false) {
            Ok(known) if known.kind == Kind::Directory => {}
            Ok(_) => return Err(denied("leads through what is no directory: refused")),
            Err(_) => view.make_directory(&so_far)?,
        }
    }
    let path = parts.join("/");
    match entry.header().entry_type() {
        EntryType::Directory => files::make_all(view, &path),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mode = entry.header().mode().unwrap_or(0o644);
            if view.stat(&path, false).is_ok_and(|known| known.kind == Kind::Link) {
                view.remove(&path, false)?;
            }
            let mut file = view.create(&path, mode)?;
            io::copy(entry, &mut file).map(|_| ())
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            if view.stat(&path, false).is_ok_and(|known| known.kind != Kind::Directory) {
                view.remove(&path, false)?;
            }
            view.make_link(&path, &target)
        }
        EntryType::XGlobalHeader => Ok(()),
        _ => Err(denied("neither a file, a directory nor a symbolic link: refused")),
    }
}
