//! Which etcd can be believed when it says how far a watch has come. Pure.

/// Whether what this version answers to a request for progress is true: earlier ones may answer before they have sent
/// what happened (etcd issue 15220 and its successors; Kubernetes draws the same line).
pub(crate) fn progress_is_true(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor)), Some(Some(patch))) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    match (major, minor) {
        (3, 4) => patch >= 31,
        (3, 5) => patch >= 13,
        (3, minor) => minor > 5,
        (major, _) => major > 3,
    }
}

#[cfg(test)]
mod tests {
    use super::progress_is_true;

    #[test]
    fn the_line_is_where_kubernetes_draws_it() {
        for (version, believed) in [
            ("3.3.27", false),
            ("3.4.23", false),
            ("3.4.30", false),
            ("3.4.31", true),
            ("3.5.0", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.5.16", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("2.3.8", false),
            ("", false),
            ("3.5", false),
        ] {
            assert_eq!(progress_is_true(version), believed, "{version}");
        }
    }
}
