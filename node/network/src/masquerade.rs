//! Pods that speak to the world outside the cluster do so with the node's address, and nobody speaks to the node's
//! 127.0.0.1 from outside, although host ports of containers need links that would let them (`route_localnet`). Answers on
//! such links are for the node's own address until they are translated back, which is after the rule.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt, process::Command};

use crate::{Config, Error, table_prefix};

/// Loads the rule, replacing an earlier one in the same transaction.
pub(crate) async fn ensure(config: &Config) -> Result<(), Error> {
    nft(&["-f", "-"], &rules(config)).await.map(drop)
}

/// Removes every table of the cluster from this namespace.
pub(crate) async fn remove(cluster_id: &str) -> Result<(), Error> {
    let prefix = table_prefix(cluster_id);
    let tables = nft(&["list", "tables"], "").await?;
    // `table inet NAME`, a line each.
    let ours = tables
        .lines()
        .filter(|line| line.split(' ').nth(2).is_some_and(|name| name.starts_with(&prefix)));
    let deletes: Vec<String> = ours.map(|line| format!("delete {line}\n")).collect();
    if deletes.is_empty() {
        return Ok(());
    }
    nft(&["-f", "-"], &deletes.concat()).await.map(drop)
}

fn rules(config: &Config) -> String {
    let table = format!("{}-network", table_prefix(&config.cluster_id));
    let (pods, cluster, services) = (config.pod_range, config.cluster_range, config.service_range);
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
         \x20 chain prerouting {{\n\
         \x20   type filter hook prerouting priority raw; policy accept;\n\
         \x20   iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n\
         \x20   iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority srcnat; policy accept;\n\
         \x20   ip saddr {pods} ip daddr != {{ {cluster}, {services}, 127.0.0.0/8, 224.0.0.0/4 }} \
         oifname != \"wh-{id}\" fib daddr type != local masquerade\n\
         \x20 }}\n\
         }}\n",
        id = config.cluster_id,
    )
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, Error> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::Rules {
            reason: format!("cannot run nft ({e}); install the package nftables"),
        })?;
    let failed = |e: std::io::Error| Error::Rules { reason: e.to_string() };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if !output.status.success() {
        return Err(Error::Rules {
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
