//! What a container runs: the image's entrypoint, arguments and environment with the pod's laid over them, by the rules
//! of Kubernetes ("Define a Command and Arguments for a Container"). Pure.

use crate::{
    images::Entry,
    protocol::{Program, compiled::Guest},
};

/// Lays a container's configuration over its image.
pub(crate) fn program(guest: Guest, image: &Entry, config: &cri::ContainerConfig) -> Program {
    let execution = &image.execution;
    let default_entrypoint = || match execution.entrypoint.as_slice() {
        [] if execution.cmd.is_empty() => vec![image.module_name.clone()],
        entrypoint => entrypoint.to_vec(),
    };
    let args = match (config.command.as_slice(), config.args.as_slice()) {
        ([], []) => [default_entrypoint(), execution.cmd.clone()].concat(),
        ([], args) => {
            let mut entrypoint = default_entrypoint();
            if entrypoint.is_empty() {
                entrypoint.push(image.module_name.clone());
            }
            [entrypoint, args.to_vec()].concat()
        }
        (command, args) => [command, args].concat(),
    };
    let working_dir = if config.working_dir.is_empty() {
        &execution.working_dir
    } else {
        &config.working_dir
    };
    Program {
        guest,
        args,
        env: environment(&execution.env, &config.env),
        working_dir: working_dir.clone(),
    }
}

/// Each name once, with its last value, where it stood first.
fn environment(image: &[String], pod: &[(String, String)]) -> Vec<(String, String)> {
    let image = image
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in image.chain(pod.iter().cloned()) {
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => merged.push((name, value)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::images::{Digest, Execution};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> Entry {
        let digest = Digest::of(b"");
        Entry {
            id: digest.clone(),
            manifest: digest.clone(),
            module: digest,
            module_name: "hello.wasm".into(),
            blobs: BTreeSet::new(),
            size: 0,
            indexes: Default::default(),
            execution: Execution {
                entrypoint: words(entrypoint),
                cmd: words(cmd),
                env: words("A=image B=image"),
                working_dir: "/image".into(),
            },
        }
    }

    #[test]
    fn command_and_args_are_laid_over_the_image_as_kubernetes_documents() {
        for (entrypoint, cmd, command, args, expected) in [
            ("/ep", "foo bar", "", "", "/ep foo bar"),
            ("/ep", "foo bar", "/ep-2", "", "/ep-2"),
            ("/ep", "foo bar", "", "zoo boo", "/ep zoo boo"),
            ("/ep", "foo bar", "/ep-2", "zoo boo", "/ep-2 zoo boo"),
            ("", "", "", "", "hello.wasm"),
            ("", "", "", "zoo", "hello.wasm zoo"),
            ("", "/a.wasm foo", "", "", "/a.wasm foo"),
            ("", "/a.wasm foo", "", "zoo", "hello.wasm zoo"),
        ] {
            let config = cri::ContainerConfig {
                command: words(command),
                args: words(args),
                ..Default::default()
            };
            let program = program(Guest::Command, &image(entrypoint, cmd), &config);
            assert_eq!(
                program.args,
                words(expected),
                "{entrypoint:?} {cmd:?} {command:?} {args:?}"
            );
        }
    }

    #[test]
    fn the_pods_environment_wins_and_names_stand_once() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = cri::ContainerConfig {
            env: vec![pair("B", "pod"), pair("C", "1"), pair("C", "2")],
            working_dir: "/pod".into(),
            ..Default::default()
        };
        let program = program(Guest::Http, &image("", ""), &config);
        assert_eq!(program.env, [pair("A", "image"), pair("B", "pod"), pair("C", "2")]);
        assert_eq!(program.working_dir, "/pod");
    }
}
