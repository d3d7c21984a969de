//! Schedules as CronJobs write them, by the rules and with the words of the parser that Kubernetes uses, and time zones.

/// The least and the greatest number of a field, and what else it may be called.
struct Field {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Field; 5] = [
    Field::numbers(0, 59),
    Field::numbers(0, 23),
    Field::numbers(1, 31),
    Field {
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const DESCRIPTORS: &[&str] = &[
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// The longest part of a time zone's name.
const MAX_ZONE_PART: usize = 14;

/// What is wrong with a schedule, if anything.
pub(crate) fn schedule(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let text = past_zone(text)?;
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (wanted, found, all) = (FIELDS.len(), fields.len(), fields.join(" "));
        return Err(format!("expected exactly {wanted} fields, found {found}: [{all}]"));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            field.range(range)?;
        }
    }
    Ok(())
}

/// The schedule without the time zone before it, which must be one.
fn past_zone(text: &str) -> Result<&str, String> {
    if !text.starts_with("TZ=") && !text.starts_with("CRON_TZ=") {
        return Ok(text);
    }
    let Some((zone, rest)) = text.split_once(' ') else {
        return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
    };
    let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
    load_zone(zone).map_err(|problem| format!("provided bad location {zone}: {problem}"))?;
    Ok(rest.trim())
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) => duration(every).map_err(|problem| format!("failed to parse duration {text}: {problem}")),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

impl Field {
    const fn numbers(min: u64, max: u64) -> Self {
        Field { min, max, names: &[] }
    }

    /// `number`, `number-number` or `*`, each with `/step` after it or not.
    fn range(&self, text: &str) -> Result<(), String> {
        let parts: Vec<&str> = text.split('/').collect();
        let ends: Vec<&str> = parts.first().map_or_else(Vec::new, |range| range.split('-').collect());
        let (start, mut end) = self.ends(text, &ends)?;
        let step = match parts.as_slice() {
            [_] => 1,
            [_, step] => {
                if ends.len() == 1 {
                    end = self.max;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {text}")),
        };
        self.in_order(text, start, end, step)
    }

    fn ends(&self, text: &str, ends: &[&str]) -> Result<(u64, u64), String> {
        match ends {
            ["*" | "?", ..] => Ok((self.min, self.max)),
            [one] => self.number_or_name(one).map(|number| (number, number)),
            [low, high] => Ok((self.number_or_name(low)?, self.number_or_name(high)?)),
            _ => {
                self.number_or_name(ends.first().unwrap_or(&""))?;
                Err(format!("too many hyphens: {text}"))
            }
        }
    }

    fn in_order(&self, text: &str, start: u64, end: u64, step: u64) -> Result<(), String> {
        let (min, max) = (self.min, self.max);
        if start < min {
            return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
        }
        if end > max {
            return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {text}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        Ok(())
    }

    fn number_or_name(&self, text: &str) -> Result<u64, String> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|index| u64::try_from(index).ok()) {
            Some(index) => Ok(index + self.min),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let syntax = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = text.parse().map_err(|_| {
        let problem = if syntax { "value out of range" } else { "invalid syntax" };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {problem}")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// A duration as Go writes them: numbers with units, such as `1h30m`.
fn duration(text: &str) -> Result<(), String> {
    const UNITS: &[&str] = &["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let numeric = |c: char| c.is_ascii_digit() || c == '.';
        let (amount, after) = rest.split_at(rest.find(|c| !numeric(c)).unwrap_or(rest.len()));
        if amount.matches('.').count() > 1 || !amount.contains(|c: char| c.is_ascii_digit()) {
            return Err(invalid());
        }
        let (unit, after) = after.split_at(after.find(numeric).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        }
        rest = after;
    }
    Ok(())
}

/// What is wrong with the name of a time zone, if anything.
pub(crate) fn time_zone(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let tolerated = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let well_formed = |part: &str| {
        (1..=MAX_ZONE_PART).contains(&part.len())
            && part.chars().all(tolerated)
            && part != "."
            && part != ".."
            && !part.starts_with('-')
    };
    if !name.split('/').all(well_formed) {
        return vec![format!("unknown time zone {name}")];
    }
    let mut found = Vec::new();
    if name.eq_ignore_ascii_case("Local") {
        found.push("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned());
    }
    found.extend(load_zone(name).err());
    found
}

/// Whether there is a time zone of this very name.
fn load_zone(name: &str) -> Result<(), String> {
    if ["", "UTC", "Local"].contains(&name) {
        return Ok(());
    }
    if name.contains("..") || name.starts_with(['/', '\\']) {
        return Err("time: invalid location name".to_owned());
    }
    let zone = jiff::tz::TimeZone::get(name).ok();
    let same = zone.is_some_and(|zone| zone.iana_name() == Some(name));
    same.then_some(()).ok_or_else(|| format!("unknown time zone {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_in_kubernetes() {
        for good in [
            "0 0 * * *",
            "*/15 0-12/2 ? JAN-Mar mon,5",
            "5/10 1 1 1 6",
            "@hourly",
            "@every 1h30m",
            "@every 1.5s",
            "CRON_TZ=UTC 0 0 * * *",
            ", * * * *",
        ] {
            assert_eq!(schedule(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("", "empty spec string"),
            ("0 0 * *", "expected exactly 5 fields, found 4: [0 0 * *]"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "99999999999999999999 * * * *",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            (
                "5- * * * *",
                "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax",
            ),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("9-3 * * * *", "beginning of range (9) beyond end of range (3): 9-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("@often", "unrecognized descriptor: @often"),
            (
                "@every 5",
                "failed to parse duration @every 5: time: missing unit in duration \"5\"",
            ),
            (
                "@every 5d",
                "failed to parse duration @every 5d: time: unknown unit \"d\" in duration \"5d\"",
            ),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "TZ=Mars/Crater * * * * *",
                "provided bad location Mars/Crater: unknown time zone Mars/Crater",
            ),
        ] {
            assert_eq!(schedule(bad), Err(problem.to_owned()), "{bad}");
        }
    }

    #[test]
    fn time_zones_are_those_there_are() {
        for good in ["UTC", "Europe/Berlin", "Etc/GMT+5"] {
            assert!(time_zone(good).is_empty(), "{good}");
        }
        let explicit = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        for (bad, problem) in [
            ("", "timeZone must be nil or non-empty string"),
            ("Local", explicit),
            ("../etc", "unknown time zone ../etc"),
            ("Mars/Crater", "unknown time zone Mars/Crater"),
            ("europe/berlin", "unknown time zone europe/berlin"),
            ("A//B", "unknown time zone A//B"),
        ] {
            assert_eq!(time_zone(bad), [problem], "{bad}");
        }
    }
}
