//! `wherry image`: images of the running node, and of registries.
//!
//! What concerns the node goes over its socket. A binary is looked into here and not in the node, which holds keys.

mod inspect;
mod login;
mod node;
mod own;
mod push;
mod table;

use anyhow::{Context, bail};

use self::node::Node;
use crate::cli::{ImageCommand, ListImages, LoadImage, Output, RemoveImages, complain, say};

/// Runs one of the commands.
pub(crate) async fn run(command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Load(options) => load(options).await,
        ImageCommand::Push(options) => push::run(options).await,
        ImageCommand::Ls(options) => list(options).await,
        ImageCommand::Rm(options) => remove(options).await,
        ImageCommand::Inspect(options) => inspect::run(options).await,
    }
}

/// Loads the file under its name and prints the image's id.
async fn load(options: LoadImage) -> anyhow::Result<()> {
    let node = Node::of(&options.data)?;
    let content = tokio::fs::read(&options.file)
        .await
        .with_context(|| format!("cannot read {}", options.file.display()))?;
    let (file, name) = (options.file.display(), &options.name);
    let loaded = match node.load(name, content.into()).await {
        Ok(loaded) => loaded,
        Err(error) => bail!("cannot load {file} as \"{name}\": {error:#}"),
    };
    say(&format!("loaded {file} as {name} ({})", loaded.id));
    if let Some(warning) = loaded.warning {
        complain(&format!("warning: {warning}"));
    }
    Ok(())
}

async fn list(options: ListImages) -> anyhow::Result<()> {
    let images = Node::of(&options.data)?.images(None).await?;
    match options.output {
        Output::Json => say(&serde_json::to_string_pretty(&serde_json::json!({"images": images}))?),
        Output::Table => table::images(&images).iter().for_each(|line| say(line)),
    }
    Ok(())
}

async fn remove(options: RemoveImages) -> anyhow::Result<()> {
    let node = Node::of(&options.data)?;
    for name in &options.names {
        match node.remove(name).await {
            Ok(()) => say(&format!("removed {name}")),
            Err(error) => bail!("cannot remove \"{name}\": {error:#}"),
        }
    }
    Ok(())
}
