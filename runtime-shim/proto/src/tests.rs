//! What CRI and `cri` both have survives there and back.

use std::{net::IpAddr, path::PathBuf};

use cri::*;
use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use crate::{
    Attempt, features, listed_container, read_container_stats, read_sandbox_stats, reported_container, status, v1,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9./_=-]{0,8}"
}

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,8}"
}

fn map() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    proptest::collection::btree_map(word(), text(), 0..3)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn resources() -> impl Strategy<Value = Resources> {
    (0..=i64::MAX, any::<i64>(), any::<i64>(), any::<i64>()).prop_map(
        |(shares, cpu_quota, cpu_period, memory_limit)| Resources {
            cpu_shares: shares.unsigned_abs(),
            cpu_quota,
            cpu_period,
            memory_limit,
        },
    )
}

fn user_namespace() -> impl Strategy<Value = UserNamespace> {
    (any::<u32>(), any::<u32>()).prop_map(|(host_id, length)| UserNamespace { host_id, length })
}

fn namespaces() -> impl Strategy<Value = Namespaces> {
    let pid = prop_oneof![
        Just(PidNamespace::Container),
        Just(PidNamespace::Pod),
        Just(PidNamespace::Node),
        word().prop_map(|id| PidNamespace::Target(ContainerId(id))),
    ];
    (pid, any::<bool>(), option::of(user_namespace())).prop_map(|(pid, host_ipc, user)| Namespaces {
        pid,
        host_ipc,
        user,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    prop_oneof![
        Just(Profile::Unconfined),
        Just(Profile::RuntimeDefault),
        text().prop_map(Profile::Localhost),
    ]
}

fn policy() -> impl Strategy<Value = SupplementalGroupsPolicy> {
    prop_oneof![
        Just(SupplementalGroupsPolicy::Merge),
        Just(SupplementalGroupsPolicy::Strict)
    ]
}

fn selinux() -> impl Strategy<Value = Option<SelinuxLabel>> {
    let label = (text(), text(), text(), text()).prop_map(|(user, role, kind, level)| SelinuxLabel {
        user,
        role,
        kind,
        level,
    });
    option::of(label)
}

fn linux_sandbox() -> impl Strategy<Value = LinuxSandbox> {
    let ids = (
        option::of(any::<i64>()),
        option::of(any::<i64>()),
        vec(any::<i64>(), 0..3),
    );
    let profiles = (profile(), profile(), selinux());
    let flags = (any::<bool>(), any::<bool>(), policy());
    (
        text(),
        namespaces(),
        map(),
        ids,
        profiles,
        flags,
        resources(),
        resources(),
    )
        .prop_map(
            |(cgroup_parent, namespaces, sysctls, ids, profiles, flags, overhead, resources)| LinuxSandbox {
                cgroup_parent,
                namespaces,
                sysctls,
                run_as_user: ids.0,
                run_as_group: ids.1,
                supplemental_groups: ids.2,
                supplemental_groups_policy: flags.2,
                readonly_rootfs: flags.0,
                privileged: flags.1,
                seccomp: profiles.0,
                apparmor: profiles.1,
                selinux: profiles.2,
                overhead,
                resources,
            },
        )
}

fn port() -> impl Strategy<Value = PortMapping> {
    let protocol = prop_oneof![Just("TCP"), Just("UDP"), Just("SCTP")];
    (protocol, any::<u16>(), any::<u16>(), text()).prop_map(|(protocol, container_port, host_port, host_ip)| {
        PortMapping {
            protocol: protocol.to_owned(),
            container_port,
            host_port,
            host_ip,
        }
    })
}

fn sandbox_config() -> impl Strategy<Value = SandboxConfig> {
    let names = (text(), text(), text(), text(), text(), any::<u32>());
    let dns = (texts(), texts(), texts());
    let linux = option::of(linux_sandbox().prop_map(Box::new));
    (names, any::<bool>(), dns, vec(port(), 0..3), map(), map(), linux).prop_map(
        |(names, host_network, dns, ports, labels, annotations, linux)| SandboxConfig {
            name: names.0,
            namespace: names.1,
            uid: names.2,
            attempt: names.5,
            hostname: names.3,
            log_directory: names.4,
            host_network,
            dns: DnsConfig {
                servers: dns.0,
                searches: dns.1,
                options: dns.2,
            },
            ports,
            labels,
            annotations,
            linux,
            join: None,
        },
    )
}

fn mount() -> impl Strategy<Value = Mount> {
    let propagation = prop_oneof![
        Just(Propagation::Private),
        Just(Propagation::HostToContainer),
        Just(Propagation::Bidirectional),
    ];
    let image = (word(), text(), text()).prop_map(|(image, image_id, sub_path)| {
        Box::new(ImageMount {
            image,
            image_id,
            sub_path,
        })
    });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (
        text(),
        text(),
        flags,
        propagation,
        option::of(user_namespace()),
        option::of(image),
    )
        .prop_map(
            |(host_path, container_path, flags, propagation, id_mapping, image)| Mount {
                host_path,
                container_path,
                readonly: flags.0,
                recursive_readonly: flags.1,
                selinux_relabel: flags.2,
                propagation,
                id_mapping,
                image,
            },
        )
}

fn signal() -> impl Strategy<Value = String> {
    let names = [
        "",
        "SIGTERM",
        "SIGKILL",
        "SIGRTMIN",
        "SIGRTMIN+3",
        "SIGRTMAX-14",
        "SIGUSR1",
    ];
    proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn linux_resources() -> impl Strategy<Value = LinuxResources> {
    (
        any::<i64>(),
        text(),
        text(),
        vec((text(), any::<u64>()), 0..3),
        any::<i64>(),
        map(),
    )
        .prop_map(
            |(oom_score_adj, cpuset_cpus, cpuset_mems, hugepage_limits, memory_swap_limit, unified)| LinuxResources {
                oom_score_adj,
                cpuset_cpus,
                cpuset_mems,
                hugepage_limits,
                memory_swap_limit,
                unified,
            },
        )
}

fn linux_container() -> impl Strategy<Value = LinuxContainer> {
    let device = (text(), text(), text()).prop_map(|(container_path, host_path, permissions)| Device {
        container_path,
        host_path,
        permissions,
    });
    let capabilities =
        (texts(), texts(), texts()).prop_map(|(add, drop, add_ambient)| Capabilities { add, drop, add_ambient });
    let devices = (vec(device, 0..3), texts());
    let profiles = (profile(), profile(), selinux(), policy());
    let paths = (texts(), texts());
    (
        linux_resources(),
        devices,
        capabilities,
        namespaces(),
        profiles,
        text(),
        paths,
        signal(),
    )
        .prop_map(
            |(limits, devices, capabilities, namespaces, profiles, run_as_username, paths, stop_signal)| {
                LinuxContainer {
                    devices: devices.0,
                    cdi_devices: devices.1,
                    capabilities,
                    namespaces,
                    supplemental_groups_policy: profiles.3,
                    run_as_username,
                    seccomp: profiles.0,
                    apparmor: profiles.1,
                    selinux: profiles.2,
                    masked_paths: paths.0,
                    readonly_paths: paths.1,
                    stop_signal,
                    ..crate::linux::with_resources(limits)
                }
            },
        )
}

fn security() -> impl Strategy<Value = SecurityContext> {
    let ids = (
        option::of(any::<i64>()),
        option::of(any::<i64>()),
        vec(any::<i64>(), 0..3),
    );
    (ids, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(ids, readonly_rootfs, privileged, no_new_privs)| {
        SecurityContext {
            run_as_user: ids.0,
            run_as_group: ids.1,
            supplemental_groups: ids.2,
            readonly_rootfs,
            privileged,
            no_new_privs,
        }
    })
}

fn container_config() -> impl Strategy<Value = ContainerConfig> {
    let names = (text(), word(), text(), text(), text(), any::<u32>());
    let program = (texts(), texts(), vec((text(), ".{0,6}"), 0..3));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let limits = (resources(), security());
    let linux = option::of(linux_container().prop_map(Box::new));
    (names, program, vec(mount(), 0..3), limits, map(), map(), flags, linux).prop_map(
        |(names, program, mounts, limits, labels, annotations, flags, linux)| ContainerConfig {
            name: names.0,
            attempt: names.5,
            image: names.1,
            image_id: names.2,
            command: program.0,
            args: program.1,
            working_dir: names.3,
            env: program.2,
            mounts,
            ports: Vec::new(),
            log_path: names.4,
            resources: limits.0,
            security: limits.1,
            labels,
            annotations,
            stdin: flags.0,
            stdin_once: flags.1,
            tty: flags.2,
            linux,
        },
    )
}

fn container() -> impl Strategy<Value = Container> {
    let state = prop_oneof![
        Just(ContainerState::Created),
        Just(ContainerState::Running),
        Just(ContainerState::Exited),
        Just(ContainerState::Unknown),
    ];
    let user = (any::<i64>(), any::<i64>(), vec(any::<i64>(), 0..3)).prop_map(|(uid, gid, supplemental_groups)| {
        Box::new(ContainerUser {
            uid,
            gid,
            supplemental_groups,
        })
    });
    let times = (any::<i64>(), any::<i64>(), any::<i64>());
    let texts = (text(), text(), text(), text(), text(), text());
    (container_config(), state, times, any::<i32>(), texts, option::of(user)).prop_map(
        |(config, state, times, exit_code, texts, user)| Container {
            id: ContainerId(texts.0),
            sandbox: SandboxId(texts.1),
            pod_uid: texts.2,
            config,
            state,
            created_at: times.0,
            started_at: times.1,
            finished_at: times.2,
            exit_code,
            reason: texts.3,
            message: texts.4,
            log_path: texts.5,
            user,
        },
    )
}

fn sandbox() -> impl Strategy<Value = Sandbox> {
    let ips = vec(any::<IpAddr>(), 0..3);
    (sandbox_config(), any::<bool>(), ips, any::<i64>(), text(), text()).prop_map(
        |(config, ready, ips, created_at, id, handler)| Sandbox {
            id: SandboxId(id),
            config,
            state: if ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            ips,
            created_at,
            handler,
            network_namespace: None,
        },
    )
}

fn stall() -> impl Strategy<Value = Stall> {
    (any::<u64>(), 0..=10_000_u32, 0..=10_000_u32, 0..=10_000_u32).prop_map(|(total, avg10, avg60, avg300)| Stall {
        total,
        avg10,
        avg60,
        avg300,
    })
}

fn pressure() -> impl Strategy<Value = Option<Pressure>> {
    option::of((stall(), stall()).prop_map(|(full, some)| Pressure { full, some }))
}

fn usage() -> impl Strategy<Value = FilesystemUsage> {
    (any::<u64>(), any::<u64>()).prop_map(|(used_bytes, inodes_used)| FilesystemUsage {
        used_bytes,
        inodes_used,
    })
}

fn container_stats() -> impl Strategy<Value = ContainerStats> {
    let counters = any::<[u64; 7]>();
    let linux = (counters, pressure(), pressure(), pressure(), usage()).prop_map(
        |(counters, cpu_pressure, memory_pressure, io_pressure, writable_layer)| {
            let [usage, rss, available, faults, major, swap, swap_available] = counters;
            Box::new(LinuxStats {
                memory_usage_bytes: usage,
                memory_rss_bytes: rss,
                memory_available_bytes: available,
                page_faults: faults,
                major_page_faults: major,
                swap_usage_bytes: swap,
                swap_available_bytes: swap_available,
                cpu_pressure,
                memory_pressure,
                io_pressure,
                writable_layer,
            })
        },
    );
    let names = (text(), text(), text(), text());
    (names, any::<i64>(), any::<u64>(), any::<u64>(), option::of(linux)).prop_map(
        |(names, timestamp, cpu, memory, linux)| ContainerStats {
            id: ContainerId(names.0),
            sandbox: SandboxId(names.1),
            name: names.2,
            pod_uid: names.3,
            timestamp,
            cpu_usage_core_nanoseconds: cpu,
            memory_working_set_bytes: memory,
            requests: 0,
            instances: 0,
            wasm: None,
            linux,
        },
    )
}

fn sandbox_stats() -> impl Strategy<Value = SandboxStats> {
    let interface =
        (text(), any::<[u64; 4]>()).prop_map(|(name, [rx_bytes, rx_errors, tx_bytes, tx_errors])| InterfaceStats {
            name,
            rx_bytes,
            rx_errors,
            tx_bytes,
            tx_errors,
        });
    (text(), text(), any::<i64>(), any::<[u64; 3]>(), vec(interface, 0..3)).prop_map(
        |(id, pod_uid, timestamp, [cpu, memory, processes], interfaces)| SandboxStats {
            id,
            pod_uid,
            timestamp,
            cpu_usage_core_nanoseconds: cpu,
            memory_working_set_bytes: memory,
            interfaces,
            processes,
        },
    )
}

fn image() -> impl Strategy<Value = Image> {
    let user = prop_oneof![any::<i64>().prop_map(ImageUser::Id), word().prop_map(ImageUser::Name)];
    (text(), texts(), texts(), any::<u64>(), any::<bool>(), option::of(user)).prop_map(
        |(id, tags, digests, size, pinned, user)| Image {
            id,
            tags,
            digests,
            size,
            pinned,
            content: Content::Linux,
            user,
        },
    )
}

/// Over the wire, so that nothing hides in what is not encoded.
fn wire<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).expect("what was encoded decodes")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_sandbox_configuration_returns(mut config in sandbox_config()) {
        let back = SandboxConfig::try_from(wire(v1::PodSandboxConfig::from(config.clone())));
        config.linux.get_or_insert_default();
        prop_assert_eq!(back.expect("reads"), config);
    }

    #[test]
    fn a_container_configuration_returns(mut config in container_config()) {
        let back = ContainerConfig::try_from(wire(v1::ContainerConfig::from(config.clone())));
        config.linux.get_or_insert_default();
        prop_assert_eq!(back.expect("reads"), config);
    }

    #[test]
    fn a_sandbox_status_returns(sandbox in sandbox()) {
        let back = Sandbox::try_from(wire(v1::PodSandboxStatus::from(sandbox.clone()))).expect("reads");
        let namespaces = sandbox.config.linux.clone().unwrap_or_default().namespaces;
        let told = Sandbox { config: identity(&sandbox.config), ..sandbox.clone() };
        let mut with_namespaces = told.clone();
        with_namespaces.config.host_network = sandbox.config.host_network;
        with_namespaces.config.linux = Some(Box::new(LinuxSandbox { namespaces, ..LinuxSandbox::default() }));
        prop_assert_eq!(back, with_namespaces);
        let listed = Sandbox::from(wire(v1::PodSandbox::from(sandbox)));
        prop_assert_eq!(listed, Sandbox { ips: Vec::new(), ..told });
    }

    #[test]
    fn a_container_status_returns(container in container()) {
        let (sandbox, uid) = (container.sandbox.clone(), container.pod_uid.clone());
        let back = reported_container(wire(v1::ContainerStatus::from(container.clone())), sandbox, uid.clone());
        let config = container.config.clone();
        let linux = config.linux.clone().unwrap_or_default();
        let known = ContainerConfig {
            name: config.name,
            attempt: config.attempt,
            image: config.image,
            image_id: config.image_id,
            labels: config.labels,
            annotations: config.annotations,
            ..ContainerConfig::default()
        };
        let told = ContainerConfig {
            mounts: config.mounts,
            resources: config.resources,
            linux: Some(Box::new(LinuxContainer {
                stop_signal: linux.stop_signal.clone(),
                ..crate::linux::with_resources(crate::linux::resources_of(&linux))
            })),
            ..known.clone()
        };
        prop_assert_eq!(back.expect("reads"), Container { config: told, ..container.clone() });
        let listed = listed_container(wire(v1::Container::from(container.clone())), uid);
        prop_assert_eq!(listed.config, known);
        prop_assert_eq!(listed.state, container.state);
        prop_assert_eq!(listed.sandbox, container.sandbox);
        prop_assert_eq!(listed.created_at, container.created_at);
    }

    #[test]
    fn usage_returns(container in container_stats(), sandbox in sandbox_stats()) {
        let told = wire(crate::container_stats(container.clone(), None));
        let back = read_container_stats(told, container.sandbox.clone(), container.pod_uid.clone());
        prop_assert_eq!(&back, &container);
        let part = ContainerStats {
            sandbox: SandboxId(sandbox.id.clone()),
            pod_uid: sandbox.pod_uid.clone(),
            ..container
        };
        let parts = vec![crate::container_stats(part.clone(), None)];
        let (back, parts) = read_sandbox_stats(wire(crate::sandbox_stats(sandbox.clone(), None, parts)));
        prop_assert_eq!(back, sandbox);
        prop_assert_eq!(parts, vec![part]);
    }

    #[test]
    fn an_image_returns(image in image(), usage in usage(), timestamp in any::<i64>(), mountpoint in text()) {
        prop_assert_eq!(Image::from(wire(v1::Image::from(image.clone()))), image);
        let filesystem = Filesystem { mountpoint: PathBuf::from(mountpoint), timestamp, usage };
        prop_assert_eq!(Filesystem::from(wire(v1::FilesystemUsage::from(filesystem.clone()))), filesystem);
    }

    #[test]
    fn a_pull_returns(reference in text(), pod_uid in text(), words in option::of(any::<[u8; 4]>())) {
        let auth = words.map(|[a, b, c, d]| RegistryAuth {
            username: a.to_string(),
            password: b.to_string(),
            identity_token: c.to_string(),
            registry_token: d.to_string(),
        });
        let pull = PullImage { reference, auth, pod_uid };
        let back = PullImage::try_from(wire(v1::PullImageRequest::from(pull.clone()))).expect("reads");
        prop_assert_eq!(back.reference, pull.reference);
        prop_assert_eq!(back.pod_uid, pull.pod_uid);
        prop_assert!(back.auth == pull.auth);
    }

    /// Bytes that a client has got wrong here and there.
    #[test]
    fn what_anybody_sends_is_read_or_refused(
        container in container_config(),
        sandbox in sandbox_config(),
        wrong in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let spoil = |mut bytes: Vec<u8>| {
            for (place, byte) in &wrong {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            bytes
        };
        let bytes = spoil(v1::ContainerConfig::from(container).encode_to_vec());
        if let Ok(message) = v1::ContainerConfig::decode(bytes.as_slice()) {
            let _ = ContainerConfig::try_from(message);
        }
        let bytes = spoil(v1::PodSandboxConfig::from(sandbox).encode_to_vec());
        if let Ok(message) = v1::PodSandboxConfig::decode(bytes.as_slice()) {
            let _ = SandboxConfig::try_from(message);
        }
    }

    #[test]
    fn resources_return(limits in resources(), linux in linux_resources()) {
        let told = wire(v1::LinuxContainerResources::from((limits, linux.clone())));
        prop_assert_eq!(Resources::from(&told), limits);
        prop_assert_eq!(LinuxResources::from(told), linux);
    }
}

fn identity(config: &SandboxConfig) -> SandboxConfig {
    SandboxConfig {
        name: config.name.clone(),
        namespace: config.namespace.clone(),
        uid: config.uid.clone(),
        attempt: config.attempt,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        ..SandboxConfig::default()
    }
}

#[test]
fn features_return() {
    let told = Features {
        handlers: vec![Handler {
            name: "runc".to_owned(),
            recursive_readonly_mounts: true,
            user_namespaces: false,
        }],
        supplemental_groups_policy: true,
        user_namespaces_host_network: false,
        cgroup_driver: Some(CgroupDriver::Cgroupfs),
    };
    let response = v1::StatusResponse {
        runtime_handlers: told.handlers.iter().cloned().map(Into::into).collect(),
        features: Some((&told).into()),
        ..v1::StatusResponse::default()
    };
    assert_eq!(features(wire(response), Some(wire((&told).into()))), told);
}

#[test]
fn what_cri_cannot_say_is_refused_by_name() {
    let sandbox = v1::PodSandboxConfig::default();
    let text = SandboxConfig::try_from(sandbox.clone()).unwrap_err().to_string();
    assert_eq!(text, "sandbox config must include metadata");
    let port = v1::PortMapping {
        container_port: 70_000,
        ..v1::PortMapping::default()
    };
    let text = PortMapping::try_from(port).unwrap_err().to_string();
    assert_eq!(text, "port 70000 is not valid");
    let range = v1::IdMapping {
        host_id: 1,
        container_id: 0,
        length: 1,
    };
    let mount = v1::Mount {
        uid_mappings: vec![range],
        ..v1::Mount::default()
    };
    assert!(Mount::try_from(mount).is_err(), "users mapped and groups not");
    let unknown = v1::Mount {
        propagation: 7,
        ..v1::Mount::default()
    };
    let text = Mount::try_from(unknown).unwrap_err().to_string();
    assert_eq!(text, "mount propagation 7 is not known");
    let env = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata::default()),
        envs: vec![v1::KeyValue {
            key: "A".to_owned(),
            value: vec![0xff].into(),
        }],
        ..v1::ContainerConfig::default()
    };
    let text = ContainerConfig::try_from(env).unwrap_err().to_string();
    assert_eq!(text, "environment variable \"A\" is not UTF-8");
}

#[test]
fn a_missing_linux_part_shares_the_pods_processes_as_cri_says() {
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata::default()),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..v1::ContainerConfig::default()
    };
    let linux = ContainerConfig::try_from(config)
        .expect("reads")
        .linux
        .expect("a Linux part");
    assert_eq!(linux.namespaces.pid, PidNamespace::Pod);
    assert_eq!(linux.seccomp, Profile::Unconfined);
}

#[test]
fn profiles_and_credentials_are_read_in_their_old_forms() {
    for (text, profile) in [
        ("", Profile::Unconfined),
        ("unconfined", Profile::Unconfined),
        ("runtime/default", Profile::RuntimeDefault),
        ("localhost/strict", Profile::Localhost("strict".to_owned())),
    ] {
        assert_eq!(
            crate::linux::read_profile(None, text).expect("reads"),
            profile,
            "{text}"
        );
    }
    assert!(crate::linux::read_profile(None, "strict").is_err());
    let auth = v1::AuthConfig {
        auth: "dXNlcjpwYXNz".to_owned(),
        ..v1::AuthConfig::default()
    };
    assert!(!format!("{auth:?}").contains("dXNl"), "credentials are not printed");
    let auth = RegistryAuth::try_from(auth).expect("reads");
    assert_eq!((auth.username.as_str(), auth.password.as_str()), ("user", "pass"));
}

#[test]
fn errors_keep_their_kind() {
    let attempt = Attempt {
        doing: "starting",
        what: "container",
        id: "c1",
        patience: std::time::Duration::from_secs(2),
    };
    let back = |error: Error| attempt.error(&status(&error));
    let not_found = Error::NotFound {
        what: "container",
        id: "c1".to_owned(),
    };
    assert!(matches!(back(not_found), Error::NotFound { what: "container", id } if id == "c1"));
    let invalid = Error::InvalidConfig {
        message: "no".to_owned(),
    };
    assert!(matches!(back(invalid), Error::InvalidConfig { message } if message == "no"));
    let timeout = Error::Timeout {
        what: "exec",
        after: attempt.patience,
    };
    assert!(matches!(back(timeout), Error::Timeout { after, .. } if after == attempt.patience));
    let unsupported = Error::Unsupported {
        what: "exec",
        reason: "no".to_owned(),
    };
    assert!(matches!(back(unsupported), Error::Unsupported { .. }));
    let failed = Error::failed("starting it", "disk full");
    assert_eq!(
        back(failed).chain(),
        "starting container \"c1\": starting it: disk full"
    );
}
