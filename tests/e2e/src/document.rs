//! Documents whose code blocks are run: a Markdown text into the steps that its reader takes, and those into a script.
//!
//! A block belongs to a scenario by an HTML comment on the line before its fence, which a reader does not see:
//!
//! | mark | the block |
//! |---|---|
//! | `<!-- paste: NAME -->` | is pasted into a shell |
//! | `<!-- paste: NAME until WORD -->` | is pasted too, and left running once it has printed a line that holds the word |
//! | `<!-- paste: NAME file PATH -->` | is the content of that file, which the text above must name |
//! | `<!-- paste: NAME prints -->` | is what the block before it printed last |
//! | `<!-- not pasted: WHY -->` | is not run |
//!
//! Every block of shell commands has a mark. The blocks of a scenario run in the document's order, in one shell that
//! stops at the first command that fails. No IO here.

use std::fmt::Write;

/// One marked block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub scenario: String,
    /// The line of the fence, from 1.
    pub line: usize,
    pub kind: Kind,
    /// The lines of the block, each with its end.
    pub text: String,
}

/// What is done with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Paste,
    Until(String),
    File(String),
    Prints,
}

/// What is wrong with a document.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("line {line}: a mark of an unknown form: {mark}")]
    Mark { line: usize, mark: String },
    #[error("line {line}: a mark without a code block below it")]
    Stray { line: usize },
    #[error("line {line}: shell commands without a mark")]
    Unmarked { line: usize },
    #[error("line {line}: the text above does not name the file {path}")]
    Unnamed { line: usize, path: String },
    #[error("line {line}: the code block has no end")]
    Open { line: usize },
}

/// The marked blocks of a document.
///
/// # Errors
/// Names the first line that does not follow the rules above.
pub fn steps(markdown: &str) -> Result<Vec<Step>, Malformed> {
    let mut lines = (1..).zip(markdown.lines());
    let (mut steps, mut above, mut mark) = (Vec::new(), String::new(), None);
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            match (line.strip_prefix("<!-- "), &mark) {
                (Some(text), None) if text.contains("paste") => mark = Some((number, parse_mark(number, text)?)),
                (_, Some((marked, _))) => return Err(Malformed::Stray { line: *marked }),
                _ if line.starts_with('#') => above.clear(),
                _ => above = format!("{above}{line}\n"),
            }
            continue;
        };
        let text = block(number, &mut lines)?;
        match mark.take() {
            None if language == "sh" => return Err(Malformed::Unmarked { line: number }),
            None | Some((_, None)) => {}
            Some((_, Some((scenario, kind)))) => {
                check_named(number, &kind, &above)?;
                let line = number;
                steps.push(Step {
                    scenario,
                    line,
                    kind,
                    text,
                });
            }
        }
        above.clear();
    }
    match mark {
        Some((line, _)) => Err(Malformed::Stray { line }),
        None => Ok(steps),
    }
}

/// A mark's scenario and kind; nothing for a block that is not run.
fn parse_mark(line: usize, text: &str) -> Result<Option<(String, Kind)>, Malformed> {
    let wrong = || Malformed::Mark {
        line,
        mark: text.to_owned(),
    };
    let inner = text.trim_end().strip_suffix(" -->").ok_or_else(wrong)?;
    if let Some(why) = inner.strip_prefix("not pasted: ") {
        return if why.is_empty() { Err(wrong()) } else { Ok(None) };
    }
    let words: Vec<&str> = inner.split_whitespace().collect();
    let (scenario, kind) = match words.as_slice() {
        ["paste:", scenario] => (scenario, Kind::Paste),
        ["paste:", scenario, "until", word] => (scenario, Kind::Until((*word).to_owned())),
        ["paste:", scenario, "file", path] => (scenario, Kind::File((*path).to_owned())),
        ["paste:", scenario, "prints"] => (scenario, Kind::Prints),
        _ => return Err(wrong()),
    };
    Ok(Some(((*scenario).to_owned(), kind)))
}

/// The lines up to the closing fence.
fn block<'a>(opened: usize, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<String, Malformed> {
    let mut text = String::new();
    for (_, line) in lines {
        if line == "```" {
            return Ok(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    Err(Malformed::Open { line: opened })
}

/// A reader must learn the file's name as well.
fn check_named(line: usize, kind: &Kind, above: &str) -> Result<(), Malformed> {
    match kind {
        Kind::File(path) if !above.contains(&format!("`{path}`")) => Err(Malformed::Unnamed {
            line,
            path: path.clone(),
        }),
        _ => Ok(()),
    }
}

/// The steps that make a component, up to its becoming an image, and the file it is in.
pub fn building(mut steps: Vec<Step>) -> Option<(Vec<Step>, String)> {
    const LOAD: &str = "wherry image load ";
    let last = steps.iter().position(|step| step.text.contains(LOAD))?;
    steps.truncate(last + 1);
    let step = steps.last_mut()?;
    let (before, after) = step.text.split_once(LOAD)?;
    let file = after.split_whitespace().next()?.to_owned();
    step.text = before.to_owned();
    Some((steps, file))
}

/// How the script begins. Each block's output goes to a file of its own below `$OUT`; what is left running is a process
/// group (`set -m`) and ends as one with the script.
const BEGIN: &str = r#"set -euo pipefail
exec 3>&2
left=()
# What a block itself puts into the background goes on, as it would for its reader.
trap 'for job in "${left[@]}"; do kill -- "-$job" || true; wait "$job" || true; done' EXIT
at() { printf -- '--- line %s\n' "$1" >&3; }
left_running() { # FILE WORD: waits until the job's output has a line with the word
  local line
  exec {output}<"$1"
  while IFS= read -r line <&"$output"; do
    printf '%s\n' "$line" >&3
    case $line in *"$2"*) return ;; esac
  done
  echo "it ended before it printed $2" >&3
  exit 1
}
printed() { # FILE: whether its last lines are those on stdin
  local wanted found
  wanted=$(cat)
  found=$(tail -n "$(wc -l <<<"$wanted")" "$1")
  [ "$found" = "$wanted" ] || { printf 'expected:\n%s\nprinted:\n%s\n' "$wanted" "$(cat "$1")" >&3; exit 1; }
}
"#;
/// Ends the here-documents; no code block has such a line.
const END: &str = "-- end of the block --";

/// A bash script that takes the steps. `$OUT` must name an empty directory.
pub fn script(steps: &[Step]) -> String {
    let mut script = BEGIN.to_owned();
    let mut last = 0;
    for Step { line, kind, text, .. } in steps {
        let written = match kind {
            Kind::Paste => {
                last = *line;
                write!(script, "at {line}; exec >\"$OUT/{line}\"\n{text}")
            }
            Kind::Until(word) => write!(
                script,
                "at {line}; mkfifo \"$OUT/{line}\"\nset -m\n{{\n{text}}} >\"$OUT/{line}\" &\nleft+=($!)\nset +m\nleft_running \"$OUT/{line}\" '{word}'\n"
            ),
            Kind::File(path) => write!(
                script,
                "at {line}; mkdir -p \"$(dirname '{path}')\"\ncat >'{path}' <<'{END}'\n{text}{END}\n"
            ),
            Kind::Prints => write!(script, "at {line}; printed \"$OUT/{last}\" <<'{END}'\n{text}{END}\n"),
        };
        written.expect("a string takes everything");
    }
    script
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const DOCUMENT: &str = "# Title\n\nPut this into `a/b`:\n\n<!-- paste: one file a/b -->\n```rust\nfn main() {}\n```\n\
        <!-- not pasted: for people -->\n```sh\nfalse\n```\nThen\n<!-- paste: one -->\n```sh\ncd a\ncat b\n```\nprints\n\
        <!-- paste: one prints -->\n```text\nfn main() {}\n```\n<!-- paste: two until ready -->\n```sh\necho ready; sleep 60\n```\n";

    #[test]
    fn finds_the_marked_blocks() {
        let steps = steps(DOCUMENT).expect("well formed");
        let found: Vec<_> = steps.iter().map(|s| (s.scenario.as_str(), s.line, &s.kind)).collect();
        let expected = [
            ("one", 6, &Kind::File("a/b".into())),
            ("one", 15, &Kind::Paste),
            ("one", 21, &Kind::Prints),
            ("two", 25, &Kind::Until("ready".into())),
        ];
        assert_eq!(found, expected);
        assert_eq!(steps[1].text, "cd a\ncat b\n");
    }

    #[test]
    fn refuses_what_a_reader_or_the_test_would_stumble_over() {
        let cases = [
            ("```sh\nls\n```\n", Malformed::Unmarked { line: 1 }),
            ("<!-- paste: one -->\n\n```sh\nls\n```\n", Malformed::Stray { line: 1 }),
            ("<!-- paste: one -->\n", Malformed::Stray { line: 1 }),
            ("<!-- paste: one -->\n```sh\nls\n", Malformed::Open { line: 2 }),
            (
                "# `x`\n<!-- paste: one file x -->\n```sh\nls\n```\n",
                Malformed::Unnamed {
                    line: 3,
                    path: "x".into(),
                },
            ),
            (
                "<!-- paste: one twice -->\n",
                Malformed::Mark {
                    line: 1,
                    mark: "paste: one twice -->".into(),
                },
            ),
        ];
        for (text, wrong) in cases {
            assert_eq!(steps(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn building_ends_before_the_image() {
        let document = "<!-- paste: one -->\n```sh\nmake\n```\n\
            <!-- paste: one -->\n```sh\nlink\nwherry image load out/a.wasm a:1\nkubectl get pods\n```\n\
            <!-- paste: one prints -->\n```\nx\n```\n";
        let (steps, file) = building(steps(document).expect("well formed")).expect("it loads an image");
        let texts: Vec<_> = steps.iter().map(|step| step.text.as_str()).collect();
        assert_eq!((texts, file.as_str()), (vec!["make\n", "link\n"], "out/a.wasm"));
    }

    /// Whether the script of a document ends well, and what it says.
    fn paste(markdown: &str) -> (bool, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let out = directory.path().join("out");
        std::fs::create_dir(&out).expect("a directory");
        let output = Command::new("bash")
            .args(["-c", &script(&steps(markdown).expect("well formed"))])
            .current_dir(&directory)
            .env("OUT", &out)
            .output()
            .expect("bash runs");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[test]
    fn the_script_takes_the_steps() {
        let (success, said) = paste(DOCUMENT);
        assert!(success, "{said}");
    }

    #[test]
    fn the_script_fails_where_a_step_does() {
        let cases = [
            ("<!-- paste: one -->\n```sh\nfalse\ntrue\n```\n", "--- line 2"),
            (
                "<!-- paste: one -->\n```sh\necho a\n```\n<!-- paste: one prints -->\n```text\nb\n```\n",
                "expected:\nb\nprinted:\na\n",
            ),
            (
                "<!-- paste: one until ready -->\n```sh\necho no\n```\n",
                "it ended before it printed ready",
            ),
        ];
        for (markdown, says) in cases {
            let (success, said) = paste(markdown);
            assert!(!success && said.contains(says), "{said}");
        }
    }
}
