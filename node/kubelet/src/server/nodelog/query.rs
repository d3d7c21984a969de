//! What a node log query asks for, and why it is refused, in Kubernetes' words. Pure.

use api::{FieldError, Path, field::aggregate};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::server::streams::values;

const MAX_TAIL: i64 = 100_000;
const MAX_SERVICES: usize = 4;
const MAX_SERVICE_LENGTH: usize = 256;

/// What is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// What the path says; there is no query.
    Path,
    /// A file below the log directory.
    File(String),
    Services(Vec<String>, Options),
}

/// Which of the services' lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) tail: Option<i64>,
    /// 0: this one; -1: the one before.
    pub(super) boot: Option<i64>,
    /// A regular expression, as `journalctl --grep` takes it.
    pub(super) pattern: String,
}

/// Reads the query string.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn read(query: &str) -> Result<Asked, String> {
    let mut errors = Vec::new();
    let (mut files, mut services) = (Vec::new(), Vec::new());
    let named: Vec<String> = values(query, "query").collect();
    for name in &named {
        if name.contains(['/', '\\']) {
            files.push(name.clone());
        } else if !name.trim().is_empty() {
            services.push(name.clone());
        }
    }
    if !named.is_empty() && files.is_empty() && services.is_empty() {
        errors.push(invalid("query", json!(named), "query cannot be empty"));
    }
    let options = Options {
        since: time(query, "sinceTime", &mut errors),
        until: time(query, "untilTime", &mut errors),
        tail: number(query, "tailLines", &mut errors),
        boot: number(query, "boot", &mut errors),
        pattern: values(query, "pattern").next().unwrap_or_default(),
    };
    if errors.is_empty() {
        if files.is_empty() && services.is_empty() && options == Options::default() {
            return Ok(Asked::Path);
        }
        check(&files, &services, &options, &mut errors);
    }
    if !errors.is_empty() {
        return Err(aggregate(&errors));
    }
    match files.into_iter().next() {
        Some(file) => Ok(Asked::File(file.replace('\\', "/"))),
        None => Ok(Asked::Services(services, options)),
    }
}

/// Why a file that was asked for is not given.
pub(super) fn no_such_file(file: &str) -> String {
    aggregate(&[invalid("query", json!([file]), "no such file in /var/log")])
}

fn check(files: &[String], services: &[String], options: &Options, errors: &mut Vec<FieldError>) {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '@');
    for service in services {
        if service.len() > MAX_SERVICE_LENGTH {
            errors.push(invalid("query", json!(service), "length must be less than 256"));
        } else if !service.chars().all(safe) || service.starts_with('-') {
            errors.push(invalid(
                "query",
                json!(service),
                "input contains unsupported characters",
            ));
        }
    }
    if services.len() > MAX_SERVICES {
        errors.push(FieldError::too_many(&Path::root("query"), services.len(), MAX_SERVICES));
    }
    match (files, services) {
        ([], []) => errors.push(FieldError::required(
            &Path::root("query"),
            "cannot be empty with options",
        )),
        ([_, ..], [_, ..]) => {
            let both = format!("[{}], [{}]", files.join(" "), services.join(" "));
            errors.push(invalid("query", json!(both), "cannot specify a file and service"));
        }
        ([_, _, ..], []) => errors.push(invalid("query", json!(files), "cannot specify more than one file")),
        ([_], []) if *options != Options::default() => {
            errors.push(invalid("query", json!(files), "cannot specify file with options"));
        }
        _ => {}
    }
    if let (Some(since), Some(until)) = (options.since, options.until)
        && since > until
    {
        errors.push(invalid(
            "untilTime",
            json!(until.to_string()),
            "must be after `sinceTime`",
        ));
    }
    if let Some(boot) = options.boot.filter(|boot| *boot > 0) {
        errors.push(invalid("boot", json!(boot), "must be less than 1"));
    }
    if let Some(tail) = options.tail.filter(|tail| !(0..=MAX_TAIL).contains(tail)) {
        let range = format!("must be between 0 and {MAX_TAIL}, inclusive");
        errors.push(invalid("tailLines", json!(tail), &range));
    }
}

fn time(query: &str, name: &str, errors: &mut Vec<FieldError>) -> Option<Timestamp> {
    let text = values(query, name).next().filter(|text| !text.is_empty())?;
    let parsed = text.parse();
    if parsed.is_err() {
        errors.push(invalid(name, json!(text), "invalid time format"));
    }
    parsed.ok()
}

fn number(query: &str, name: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    let text = values(query, name).next().filter(|text| !text.is_empty())?;
    let parsed = text.parse();
    if parsed.is_err() {
        let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        errors.push(invalid(name, json!(text), &why));
    }
    parsed.ok()
}

fn invalid(field: &str, value: Value, why: &str) -> FieldError {
    FieldError::invalid(&Path::root(field), value, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_may_be_asked() {
        let services = |names: &[&str], options| {
            Ok(Asked::Services(
                names.iter().map(|n| (*n).to_owned()).collect(),
                options,
            ))
        };
        let cases = [
            ("", Ok(Asked::Path)),
            ("timeout=5s", Ok(Asked::Path)),
            ("query=%2Fsyslog", Ok(Asked::File("/syslog".to_owned()))),
            ("query=a%5Cb", Ok(Asked::File("a/b".to_owned()))),
            (
                "query=kubelet&query=getty@tty1",
                services(&["kubelet", "getty@tty1"], Options::default()),
            ),
            (
                "query=kubelet&tailLines=10&boot=-1&pattern=a.*b&sinceTime=2026-01-01T00:00:00Z",
                services(
                    &["kubelet"],
                    Options {
                        since: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
                        tail: Some(10),
                        boot: Some(-1),
                        pattern: "a.*b".to_owned(),
                        ..Options::default()
                    },
                ),
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(read(query), expected, "{query}");
        }
    }

    #[test]
    fn refuses_the_rest_in_kubernetes_words() {
        let cases = [
            ("query=+", "query: Invalid value: [\" \"]: query cannot be empty"),
            ("tailLines=1", "query: Required value: cannot be empty with options"),
            (
                "query=a&query=/b",
                "query: Invalid value: \"[/b], [a]\": cannot specify a file and service",
            ),
            (
                "query=/a&query=/b",
                "query: Invalid value: [\"/a\",\"/b\"]: cannot specify more than one file",
            ),
            (
                "query=/a&boot=0",
                "query: Invalid value: [\"/a\"]: cannot specify file with options",
            ),
            (
                "query=a;b",
                "query: Invalid value: \"a;b\": input contains unsupported characters",
            ),
            (
                "query=--root",
                "query: Invalid value: \"--root\": input contains unsupported characters",
            ),
            ("query=a&boot=1", "boot: Invalid value: 1: must be less than 1"),
            (
                "query=a&tailLines=100001",
                "tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive",
            ),
            (
                "query=a&sinceTime=now",
                "sinceTime: Invalid value: \"now\": invalid time format",
            ),
            (
                "query=a&boot=x",
                "boot: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "query=a&query=b&query=c&query=d&query=e",
                "query: Too many: 5: must have at most 4 items",
            ),
            (
                "query=a&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z",
                "untilTime: Invalid value: \"2026-01-01T00:00:00Z\": must be after `sinceTime`",
            ),
        ];
        for (query, why) in cases {
            assert_eq!(read(query), Err(why.to_owned()), "{query}");
        }
    }
}
