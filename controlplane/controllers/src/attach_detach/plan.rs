//! What is to be attached to a node and detached from it. Pure; the rules of Kubernetes' attach/detach controller.

use std::{collections::BTreeSet, sync::Arc};

use client::Meta;
use sha2::{Digest, Sha256};

use crate::view::{Node, PersistentVolume, VolumeAttachment};

/// A node that is known to be off: nothing on it uses a volume any more.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A volume that a pod of the node has.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) pod: Meta,
    pub(super) volume: Arc<PersistentVolume>,
}

/// One thing to do, in the order that is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Attach {
        name: String,
        driver: String,
        volume: String,
    },
    /// The node's status is to list these as attached.
    Report(Vec<String>),
    Detach {
        name: String,
        uid: String,
    },
    /// Another node has it: the pod is told why it waits.
    Refuse(Meta, String),
    /// The attacher could not.
    Fail(Meta, String),
    Succeed(Meta, String),
}

/// What the object is called by which a volume is attached to a node.
fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    let mut hash = Sha256::new();
    [handle, driver, node].iter().for_each(|part| hash.update(part));
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hash}")
}

/// How a node's status names a volume.
fn unique_name(volume: &PersistentVolume) -> Option<String> {
    let source = volume.spec.csi.as_ref()?;
    Some(format!("kubernetes.io/csi/{}^{}", source.driver, source.volume_handle))
}

/// Plans for a node of this name; `node` is absent when its object is. The attachments are those to it, and to others.
pub(super) fn plan(
    name: &str,
    node: Option<&Node>,
    wanted: &[Wanted],
    (here, elsewhere): (&[Arc<VolumeAttachment>], &[Arc<VolumeAttachment>]),
    volume: &dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
) -> Vec<Step> {
    let mut steps = attach(name, wanted, here, elsewhere);
    let in_use: BTreeSet<&str> = match node {
        Some(node) if node.spec.taints.iter().all(|taint| &*taint.key != OUT_OF_SERVICE) => {
            node.status.volumes_in_use.iter().map(AsRef::as_ref).collect()
        }
        _ => BTreeSet::new(),
    };
    let (mut attached, mut detach) = (BTreeSet::new(), Vec::new());
    for attachment in here {
        let source = &attachment.spec.source.persistent_volume_name;
        let unique = volume(source).as_deref().and_then(unique_name);
        let used = unique.as_deref().is_some_and(|unique| in_use.contains(unique));
        let kept = used || wanted.iter().any(|wanted| wanted.volume.metadata.name == *source);
        if attachment.metadata.is_deleting() {
            continue;
        }
        if !kept {
            detach.push(Step::Detach {
                name: attachment.metadata.name.to_string(),
                uid: attachment.metadata.uid.to_string(),
            });
        } else if attachment.status.attached {
            attached.extend(unique);
        }
    }
    if let Some(node) = node {
        let known: BTreeSet<&str> = node.status.volumes_attached.iter().map(|v| &*v.name).collect();
        if known != attached.iter().map(String::as_str).collect() {
            steps.extend(succeeded(wanted, &attached, &known));
            // The node has to know before it is detached.
            steps.push(Step::Report(attached.into_iter().collect()));
        }
    }
    steps.extend(detach);
    steps
}

fn attach(
    name: &str,
    wanted: &[Wanted],
    here: &[Arc<VolumeAttachment>],
    elsewhere: &[Arc<VolumeAttachment>],
) -> Vec<Step> {
    let (mut steps, mut begun) = (Vec::new(), BTreeSet::new());
    for Wanted { pod, volume } in wanted {
        let Some(source) = &volume.spec.csi else { continue };
        let title = &volume.metadata.name;
        let is_it = |attachment: &&Arc<VolumeAttachment>| attachment.spec.source.persistent_volume_name == *title;
        if let Some(attachment) = here.iter().find(is_it) {
            let error = attachment
                .status
                .attach_error
                .as_ref()
                .filter(|_| !attachment.status.attached);
            if let Some(error) = error {
                let why = format!("AttachVolume.Attach failed for volume \"{title}\" : {}", error.message);
                steps.push(Step::Fail(pod.clone(), why));
            }
            continue;
        }
        let shared = volume
            .spec
            .access_modes
            .iter()
            .any(|m| matches!(&**m, "ReadWriteMany" | "ReadOnlyMany"));
        if !shared && elsewhere.iter().any(|attachment| is_it(&attachment)) {
            let why = format!(
                "Multi-Attach error for volume \"{title}\" Volume is already exclusively attached to one node and can't be \
                 attached to another"
            );
            steps.push(Step::Refuse(pod.clone(), why));
            continue;
        }
        if begun.insert(title) {
            steps.push(Step::Attach {
                name: attachment_name(&source.volume_handle, &source.driver, name),
                driver: source.driver.to_string(),
                volume: title.to_string(),
            });
        }
    }
    steps
}

/// The pods whose volumes have just been attached.
fn succeeded(wanted: &[Wanted], attached: &BTreeSet<String>, known: &BTreeSet<&str>) -> Vec<Step> {
    let new = wanted.iter().filter(|wanted| {
        let unique = unique_name(&wanted.volume);
        unique.is_some_and(|unique| attached.contains(&unique) && !known.contains(&*unique))
    });
    let told = new.map(|Wanted { pod, volume }| {
        let said = format!("AttachVolume.Attach succeeded for volume \"{}\"", volume.metadata.name);
        Step::Succeed(pod.clone(), said)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, mode: &str) -> Arc<PersistentVolume> {
        let csi = json!({"driver": "d", "volumeHandle": format!("h-{name}")});
        let object = json!({"metadata": {"name": name}, "spec": {"csi": csi, "accessModes": [mode]}});
        Arc::new(serde_json::from_value(object).expect("volume"))
    }

    fn attachment(volume: &str, node: &str, status: Value, deleting: bool) -> Arc<VolumeAttachment> {
        let deletion = deleting.then_some("2026-01-01T00:00:00Z");
        let object = json!({"metadata": {"name": format!("a-{volume}"), "uid": "u", "deletionTimestamp": deletion},
            "spec": {"attacher": "d", "nodeName": node, "source": {"persistentVolumeName": volume}}, "status": status});
        Arc::new(serde_json::from_value(object).expect("attachment"))
    }

    fn node(attached: &[&str], in_use: &[&str], taints: Value) -> Node {
        let attached: Vec<_> = attached.iter().map(|name| json!({"name": name})).collect();
        let object = json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"volumesAttached": attached, "volumesInUse": in_use}});
        serde_json::from_value(object).expect("node")
    }

    fn wanted(volume: &Arc<PersistentVolume>) -> Wanted {
        Wanted {
            pod: serde_json::from_value(json!({"name": "p", "namespace": "ns", "uid": "p"})).expect("meta"),
            volume: volume.clone(),
        }
    }

    const UNIQUE: &str = "kubernetes.io/csi/d^h-v";

    fn planned(
        node: Option<&Node>,
        wanted: &[Wanted],
        here: &[Arc<VolumeAttachment>],
        elsewhere: &[Arc<VolumeAttachment>],
    ) -> Vec<Step> {
        let find = |name: &str| Some(volume(name, "ReadWriteOnce"));
        plan("n", node, wanted, (here, elsewhere), &find)
    }

    #[test]
    fn a_volume_is_attached_reported_and_let_go_when_nobody_uses_it() {
        let (v, n) = (volume("v", "ReadWriteOnce"), node(&[], &[], json!([])));
        let name = attachment_name("h-v", "d", "n");
        let attach = Step::Attach {
            name,
            driver: "d".into(),
            volume: "v".into(),
        };
        assert_eq!(planned(Some(&n), &[wanted(&v), wanted(&v)], &[], &[]), [attach]);
        let (pending, done) = (
            attachment("v", "n", json!({}), false),
            attachment("v", "n", json!({"attached": true}), false),
        );
        assert!(planned(Some(&n), &[wanted(&v)], &[pending], &[]).is_empty());
        let steps = planned(Some(&n), &[wanted(&v)], std::slice::from_ref(&done), &[]);
        assert!(
            matches!(&steps[0], Step::Succeed(_, said) if said == "AttachVolume.Attach succeeded for volume \"v\"")
        );
        assert_eq!(steps[1..], [Step::Report(vec![UNIQUE.into()])]);
        let n = node(&[UNIQUE], &[UNIQUE], json!([]));
        assert!(
            planned(Some(&n), &[], std::slice::from_ref(&done), &[]).is_empty(),
            "the node still uses it"
        );
        let detach = Step::Detach {
            name: "a-v".into(),
            uid: "u".into(),
        };
        let n = node(&[UNIQUE], &[], json!([]));
        assert_eq!(
            planned(Some(&n), &[], std::slice::from_ref(&done), &[]),
            [Step::Report(vec![]), detach.clone()]
        );
        assert_eq!(
            planned(None, &[], std::slice::from_ref(&done), &[]),
            std::slice::from_ref(&detach),
            "the node is gone"
        );
        let off = node(&[], &[UNIQUE], json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]));
        assert_eq!(planned(Some(&off), &[], &[done], &[]), [detach]);
        let n = node(&[], &[], json!([]));
        assert!(planned(Some(&n), &[], &[attachment("v", "n", json!({}), true)], &[]).is_empty());
    }

    #[test]
    fn a_volume_for_one_node_is_on_no_second_one() {
        let (n, other) = (
            node(&[], &[], json!([])),
            attachment("v", "m", json!({"attached": true}), true),
        );
        let steps = planned(
            Some(&n),
            &[wanted(&volume("v", "ReadWriteOnce"))],
            &[],
            std::slice::from_ref(&other),
        );
        assert!(matches!(&steps[..], [Step::Refuse(_, why)] if why.starts_with("Multi-Attach error for volume \"v\"")));
        let steps = planned(Some(&n), &[wanted(&volume("v", "ReadWriteMany"))], &[], &[other]);
        assert!(matches!(&steps[..], [Step::Attach { .. }]));
    }

    #[test]
    fn a_failure_is_told_to_the_pod() {
        let failed = attachment("v", "n", json!({"attachError": {"message": "no slot"}}), false);
        let steps = planned(
            Some(&node(&[], &[], json!([]))),
            &[wanted(&volume("v", "ReadWriteOnce"))],
            &[failed],
            &[],
        );
        let said = "AttachVolume.Attach failed for volume \"v\" : no slot";
        assert!(matches!(&steps[..], [Step::Fail(_, why)] if why == said));
    }
}
