//! `wherry image inspect`: what a binary says of itself, whether it lies here or in the node.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use super::{node::Node, table};
use crate::cli::{InspectImage, Output, say};

/// A binary, and as which image it was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    /// Absent of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<cri::Image>,
    #[serde(flatten)]
    binary: wasm::Inspection,
}

/// Prints a description.
pub(super) async fn run(options: InspectImage) -> anyhow::Result<()> {
    let what = &options.what;
    let (image, binary) = if Path::new(what).is_file() {
        let binary = std::fs::read(what).with_context(|| format!("cannot read {what}"))?;
        (None, binary.into())
    } else {
        let node = Node::of(&options.data).with_context(|| format!("there is no file \"{what}\""))?;
        let Some(image) = node.images(Some(what)).await?.pop() else {
            bail!("there is neither a file nor an image \"{what}\"");
        };
        let program = node.program(what).await?;
        (Some(image), program)
    };
    let binary = wasm::inspect(&binary).with_context(|| format!("cannot look into \"{what}\""))?;
    let found = Found { image, binary };
    match options.output {
        Output::Json => say(&serde_json::to_string_pretty(&found)?),
        Output::Table => table::description(found.image.as_ref(), &found.binary)
            .iter()
            .for_each(|line| say(line)),
    }
    Ok(())
}
