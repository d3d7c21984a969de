//! Versions of groups in the order in which Kubernetes prefers them.

/// What versions are ordered by, the best one greatest: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then everything that
/// is no version of that form, by its text, backwards.
pub fn version_priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let text = || std::cmp::Reverse(version.to_owned());
    match parse(version) {
        Some((level, major, minor)) => (level, major, minor, text()),
        None => (0, 0, 0, text()),
    }
}

/// Level (3 for stable), major and minor number.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at_checked(end)?;
    let major = number(major)?;
    if rest.is_empty() {
        return Some((3, major, 0));
    }
    let (level, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (2, minor),
        (_, Some(minor)) => (1, minor),
        _ => return None,
    };
    Some((level, major, number(minor)?))
}

/// A number that is not written with zeros in front.
fn number(text: &str) -> Option<u64> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first_and_later_ones_before_earlier_ones() {
        let mut versions = [
            "foo10",
            "v1",
            "v3beta1",
            "v11alpha2",
            "v12alpha1",
            "v10beta3",
            "foo1",
            "v2",
            "v10",
            "v11beta2",
        ];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }
}
