//! Choosing by ids, which people shorten, and by filters. Pure.

use std::collections::BTreeMap;

use cri::{Container, Image, Sandbox};
use proto::v1;

/// What a given id stands for among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The one that it is, or that alone begins with it.
    One(String),
    None,
    Several,
}

/// Looks an id up that may be shortened.
pub(super) fn id<'a>(ids: impl IntoIterator<Item = &'a str>, given: &str) -> Found {
    let mut found = Found::None;
    for id in ids.into_iter().filter(|id| !given.is_empty() && id.starts_with(given)) {
        if id == given {
            return Found::One(id.to_owned());
        }
        found = match found {
            Found::None => Found::One(id.to_owned()),
            _ => Found::Several,
        };
    }
    found
}

/// Looks an image up by an id that may be shortened and have lost its `sha256:`.
pub(super) fn image_id(images: &[Image], given: &str) -> Found {
    let hex = given.strip_prefix("sha256:").unwrap_or(given);
    if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Found::None;
    }
    id(images.iter().map(|image| image.id.as_str()), &format!("sha256:{hex}"))
}

type Labels = BTreeMap<String, String>;

fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a list with this filter shows the sandbox.
pub(super) fn sandbox(sandbox: &v1::PodSandbox, filter: &v1::PodSandboxFilter) -> bool {
    sandbox.id.starts_with(&filter.id)
        && filter.state.is_none_or(|wanted| wanted.state == sandbox.state)
        && has_all(&sandbox.labels, &filter.label_selector)
}

/// Whether a list with this filter shows the container.
pub(super) fn container(container: &v1::Container, filter: &v1::ContainerFilter) -> bool {
    container.id.starts_with(&filter.id)
        && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
        && filter.state.is_none_or(|wanted| wanted.state == container.state)
        && has_all(&container.labels, &filter.label_selector)
}

/// Whether a list of usage with this filter shows the container.
pub(super) fn container_stats(container: &Container, filter: &v1::ContainerStatsFilter) -> bool {
    container.id.0.starts_with(&filter.id)
        && container.sandbox.0.starts_with(&filter.pod_sandbox_id)
        && has_all(&container.config.labels, &filter.label_selector)
}

/// Whether a list of usage with this filter shows the sandbox.
pub(super) fn sandbox_stats(sandbox: &Sandbox, filter: &v1::PodSandboxStatsFilter) -> bool {
    sandbox.id.0.starts_with(&filter.id) && has_all(&sandbox.config.labels, &filter.label_selector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_shortened_while_it_is_the_only_one() {
        let ids = ["wasm-12", "wasm-123", "wasm-456"];
        for (given, found) in [
            ("wasm-456", Found::One("wasm-456".to_owned())),
            ("wasm-4", Found::One("wasm-456".to_owned())),
            ("wasm-12", Found::One("wasm-12".to_owned())),
            ("wasm-1", Found::Several),
            ("wasm-9", Found::None),
            ("", Found::None),
        ] {
            assert_eq!(id(ids, given), found, "{given}");
        }
    }

    #[test]
    fn an_image_is_found_by_the_beginning_of_its_digest() {
        let image = |id: &str| Image {
            id: id.to_owned(),
            ..Image::default()
        };
        let images = [image("sha256:abc1"), image("sha256:abd2")];
        assert_eq!(image_id(&images, "abc"), Found::One("sha256:abc1".to_owned()));
        assert_eq!(image_id(&images, "sha256:abd"), Found::One("sha256:abd2".to_owned()));
        assert_eq!(image_id(&images, "ab"), Found::Several);
        for none in ["", "hello", "sha256:", &"0".repeat(64)] {
            assert_eq!(image_id(&images, none), Found::None, "{none}");
        }
    }

    #[test]
    fn filters_are_joined_by_and() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let listed = v1::Container {
            id: "wasm-1".to_owned(),
            pod_sandbox_id: "wasm-s".to_owned(),
            state: v1::ContainerState::ContainerRunning.into(),
            labels: labels(&[("a", "1"), ("b", "2")]),
            ..v1::Container::default()
        };
        let filter =
            |id: &str, sandbox: &str, state: Option<v1::ContainerState>, pairs: &[(&str, &str)]| v1::ContainerFilter {
                id: id.to_owned(),
                pod_sandbox_id: sandbox.to_owned(),
                state: state.map(|state| v1::ContainerStateValue { state: state.into() }),
                label_selector: labels(pairs),
            };
        let (running, exited) = (
            v1::ContainerState::ContainerRunning,
            v1::ContainerState::ContainerExited,
        );
        assert!(container(&listed, &filter("", "", None, &[])));
        assert!(container(
            &listed,
            &filter("wasm-1", "wasm-s", Some(running), &[("a", "1")])
        ));
        assert!(!container(&listed, &filter("wasm-1", "wasm-s", Some(exited), &[])));
        assert!(!container(&listed, &filter("wasm-2", "", None, &[])));
        assert!(!container(&listed, &filter("", "wasm-t", None, &[])));
        assert!(!container(&listed, &filter("", "", None, &[("a", "2")])));
        assert!(!container(&listed, &filter("", "", None, &[("c", "")])));
    }
}
