//! Every command of kubectl that needs no container, of both versions, as a session at a terminal: what was typed, and what
//! came. Each `.txt` beside this file is one story on a cluster of its own; `transcript.rs` says how to read it.

mod transcript;

use e2e::{Cluster, Tool, control_plane, need_root};

use crate::transcript::Transcript;

macro_rules! stories {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                need_root!();
                let transcript = Transcript::parse(include_str!(concat!(stringify!($name), ".txt")));
                for tool in [Tool::Kubectl132, Tool::Kubectl136] {
                    transcript.play(&Cluster::start(control_plane()), tool);
                }
            }
        )*

        /// A story that is not in the list is never told.
        #[test]
        fn every_story_is_told() {
            let directory = e2e::repository().join("tests/e2e/tests/commands");
            let files = std::fs::read_dir(directory).expect("the stories");
            let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
            let mut stories: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned())).collect();
            stories.sort();
            let mut told = [$(stringify!($name)),*];
            told.sort_unstable();
            assert_eq!(stories, told);
        }
    };
}

stories! {
    apply,
    auth,
    change,
    create,
    delete,
    describe,
    discover,
    get,
    nodes,
    prune,
    refused,
    wait,
    work,
}
