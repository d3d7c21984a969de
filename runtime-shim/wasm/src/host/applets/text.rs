//! Applets that read text: `cat`, `head`, `tail`, `wc`.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read},
};

use super::{Failed, Streams, Surroundings, complain};

type Done = Result<i32, Failed>;

/// The most that `tail` keeps of what it has read, in bytes.
const KEPT: usize = 4 << 20;
const BUFFER: usize = 32 << 10;

/// Reads each file, or stdin without any and for `-`.
fn each(
    around: &Surroundings,
    streams: &mut Streams<'_>,
    applet: &str,
    files: &[String],
    mut what: impl FnMut(&mut dyn Read, &mut dyn io::Write, &str) -> Result<(), Failed>,
) -> Done {
    let stdin = ["-".to_owned()];
    let files = if files.is_empty() { &stdin } else { files };
    let mut code = 0;
    for path in files {
        if path == "-" {
            what(streams.stdin, streams.stdout, path)?;
            continue;
        }
        match around.view.open(path) {
            Ok(mut file) => what(&mut file, streams.stdout, path)?,
            Err(error) => code = complain(streams, applet, path, &error),
        }
    }
    Ok(code)
}

pub(super) fn cat(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (_, files) = super::options(args, "u")?;
    each(around, streams, "cat", files, |file, out, _| {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            out.write_all(buffer.get(..length).unwrap_or_default())?;
            out.flush()?;
        }
    })
}

/// How much of a file `head` and `tail` are asked for.
enum Amount {
    Lines(u64),
    Bytes(u64),
}

/// Reads `-n 5`, `-n5`, `-5`, `-c 5`; a `+` in front, for `tail`, means from there on.
fn amount(args: &[String]) -> Result<(Amount, bool, &[String]), Failed> {
    let bad = |text: &str| Failed::Usage(format!("invalid number \"{text}\""));
    let (mut amount, mut from, mut rest) = (Amount::Lines(10), false, args);
    while let Some((first, others)) = rest.split_first() {
        let Some(option) = first.strip_prefix('-').filter(|option| !option.is_empty()) else {
            break;
        };
        rest = others;
        let (kind, mut number) = match option.split_at_checked(1) {
            Some((kind @ ("n" | "c"), number)) => (kind, number),
            _ => ("n", option),
        };
        if number.is_empty() {
            let (next, others) = rest.split_first().ok_or_else(|| bad(""))?;
            (number, rest) = (next, others);
        }
        from = number.starts_with('+');
        let value = number.trim_start_matches('+').parse().map_err(|_| bad(number))?;
        amount = if kind == "c" {
            Amount::Bytes(value)
        } else {
            Amount::Lines(value)
        };
    }
    Ok((amount, from, rest))
}

pub(super) fn head(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (amount, _, files) = amount(args)?;
    each(around, streams, "head", files, |file, out, _| {
        match amount {
            Amount::Bytes(count) => {
                io::copy(&mut file.take(count), out)?;
            }
            Amount::Lines(count) => lines(file, |index, line| {
                if index < count {
                    out.write_all(line)?;
                }
                Ok(index < count)
            })?,
        }
        Ok(())
    })
}

/// Calls with each line and its number from 0, until it is enough.
fn lines(file: &mut dyn Read, mut what: impl FnMut(u64, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    let mut index = 0;
    loop {
        line.clear();
        // A line without end is taken in pieces.
        (&mut file).take(KEPT as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || !what(index, &line)? {
            return Ok(());
        }
        index += u64::from(line.ends_with(b"\n"));
    }
}

pub(super) fn tail(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (amount, from, files) = amount(args)?;
    each(around, streams, "tail", files, |file, out, _| {
        match (&amount, from) {
            (Amount::Bytes(start), true) => {
                let skipped = start.saturating_sub(1);
                io::copy(&mut (&mut *file).take(skipped), &mut io::sink())?;
                io::copy(file, out)?;
            }
            (Amount::Lines(start), true) => {
                let first = start.saturating_sub(1);
                lines(file, |index, line| {
                    if index >= first {
                        out.write_all(line)?;
                    }
                    Ok(true)
                })?;
            }
            (Amount::Bytes(count), false) => {
                let count = usize::try_from(*count).unwrap_or(KEPT).min(KEPT);
                out.write_all(&last_bytes(file, count)?)?;
            }
            (Amount::Lines(count), false) => {
                for line in last_lines(file, usize::try_from(*count).unwrap_or(usize::MAX))? {
                    out.write_all(&line)?;
                }
            }
        }
        Ok(())
    })
}

fn last_bytes(file: &mut dyn Read, count: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            let surplus = kept.len().saturating_sub(count);
            return Ok(kept.split_off(surplus));
        }
        kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if kept.len() > 2 * count + BUFFER {
            kept.drain(..kept.len() - count);
        }
    }
}

/// The last lines, as far as they fit into what is kept.
fn last_lines(file: &mut dyn Read, count: usize) -> io::Result<VecDeque<Vec<u8>>> {
    let (mut kept, mut bytes) = (VecDeque::<Vec<u8>>::new(), 0);
    lines(file, |_, line| {
        kept.push_back(line.to_vec());
        bytes += line.len();
        while kept.len() > count || (bytes > KEPT && kept.len() > 1) {
            bytes -= kept.pop_front().map_or(0, |line| line.len());
        }
        Ok(true)
    })?;
    Ok(kept)
}

pub(super) fn wc(around: &Surroundings, args: &[String], streams: &mut Streams<'_>) -> Done {
    let (options, files) = super::options(args, "lwc")?;
    each(around, streams, "wc", files, |file, out, path| {
        let (mut newlines, mut words, mut bytes, mut in_word) = (0_u64, 0_u64, 0_u64, false);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            bytes += length as u64;
            if options == "c" {
                continue;
            }
            for byte in buffer.iter().take(length) {
                newlines += u64::from(*byte == b'\n');
                let space = byte.is_ascii_whitespace();
                words += u64::from(!space && !in_word);
                in_word = !space;
            }
        }
        let counts = [('l', newlines), ('w', words), ('c', bytes)];
        let wanted = counts
            .iter()
            .filter(|(letter, _)| options.is_empty() || options.contains(*letter));
        let counts: Vec<String> = wanted.map(|(_, count)| count.to_string()).collect();
        let name = if path == "-" { String::new() } else { format!(" {path}") };
        Ok(writeln!(out, "{}{name}", counts.join(" "))?)
    })
}
