//! `/configz`: what this kubelet goes by, in the fields of Kubernetes' `KubeletConfiguration`, for those who compare nodes.
//!
//! Everything here is what the code does; what it has no counterpart of is left out.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use super::auth;
use crate::{images, logs, node, shared::Shared, static_pods};

/// What the rest of the kubelet does not keep.
pub(crate) struct Told {
    pub(crate) static_pods: Option<PathBuf>,
    /// Whether certificates are asked for.
    pub(crate) rotates: bool,
}

pub(super) fn routes(address: SocketAddr, told: Told) -> Router<Arc<Shared>> {
    let told = Arc::new(told);
    let answer = move |State(shared): State<Arc<Shared>>| {
        let told = told.clone();
        async move { Json(json!({"kubeletconfig": describe(&shared, address, &told)})) }
    };
    Router::new().route("/configz", get(answer))
}

fn describe(shared: &Shared, address: SocketAddr, told: &Told) -> Value {
    let (thresholds, (storage, _)) = (&shared.thresholds, node::storage(&shared.data_dir));
    let mut config = json!({
        "enableServer": true,
        "address": address.ip(),
        "port": address.port(),
        "podLogsDir": shared.data_dir.join("logs/pods"),
        "fileCheckFrequency": go(static_pods::PERIOD),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true, "cacheTTL": go(auth::TOKEN)},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": go(auth::ALLOWED), "cacheUnauthorizedTTL": go(auth::DENIED)},
        },
        "rotateCertificates": told.rotates,
        "serverTLSBootstrap": told.rotates,
        "clusterDomain": shared.dns.domain,
        "clusterDNS": *shared.dns.servers.borrow(),
        "nodeStatusUpdateFrequency": go(node::LOOK),
        "nodeStatusReportFrequency": go(node::SEND),
        "nodeLeaseDurationSeconds": node::LEASE.as_secs(),
        "imageMinimumGCAge": go(images::LEAST_AGE),
        "imageGCHighThresholdPercent": thresholds.image_gc.high(),
        "imageGCLowThresholdPercent": thresholds.image_gc.low(),
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": "100ms",
        "maxPods": shared.capacity.pods,
        "evictionHard": thresholds.eviction_hard.told(i64::try_from(storage).unwrap_or(i64::MAX)),
        "evictionPressureTransitionPeriod": go(thresholds.transition),
        "containerLogMaxSize": api::Quantity::from_bytes(i64::try_from(logs::MAX_SIZE).unwrap_or(i64::MAX)).to_string(),
        "containerLogMaxFiles": logs::MAX_FILES,
        "serializeImagePulls": false,
        "failSwapOn": false,
        "enableDebuggingHandlers": true,
        "enableSystemLogHandler": true,
        "enableSystemLogQuery": true,
    });
    let Some(fields) = config.as_object_mut() else {
        return config;
    };
    if let Some(directory) = &told.static_pods {
        fields.insert("staticPodPath".to_owned(), json!(directory));
    }
    if let Some(cgroups) = &shared.cgroups {
        let driver = match cgroups.driver {
            cri::CgroupDriver::Cgroupfs => "cgroupfs",
            cri::CgroupDriver::Systemd => "systemd",
        };
        fields.insert("cgroupDriver".to_owned(), driver.into());
        fields.insert("cgroupsPerQOS".to_owned(), true.into());
        fields.insert("cgroupRoot".to_owned(), format!("/{}", cgroups.prefix).into());
        fields.insert("podPidsLimit".to_owned(), cgroups.pod_pids.into());
    }
    config
}

/// Whole seconds as Go prints a duration: `5m0s`.
fn go(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases = [(0, "0s"), (40, "40s"), (120, "2m0s"), (3661, "1h1m1s")];
        for (seconds, expected) in cases {
            assert_eq!(go(Duration::from_secs(seconds)), expected);
        }
    }
}
