use super::*;

fn find(kind: &str, name: &str) -> Object {
    policy().into_iter().find(|o| o.kind() == kind && o.name() == name).unwrap()
}

#[test]
fn reads_every_line_of_the_table() {
    let objects = policy();
    let count = |kind: &str| objects.iter().filter(|o| o.kind() == kind).count();
    assert_eq!(
        (count("ClusterRole"), count("ClusterRoleBinding"), count("Role"), count("RoleBinding")),
        (71, 52, 7, 7)
    );
    let rules: usize = objects.iter().map(|o| o.list_at("rules").len()).sum();
    let lines = include_str!("policy.txt").lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!(rules, lines);
}

#[test]
fn an_administrator_may_do_everything() {
    let rules = find("ClusterRole", "cluster-admin");
    assert_eq!(
        rules.list_at("rules"),
        [
            json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
            json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
        ]
    );
    let binding = find("ClusterRoleBinding", "cluster-admin");
    assert_eq!(binding.at("roleRef.name"), Some(&json!("cluster-admin")));
    let masters = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:masters"});
    assert_eq!(binding.list_at("subjects"), [masters]);
}

#[test]
fn user_facing_roles_are_made_of_others() {
    let edit = find("ClusterRole", "edit");
    assert_eq!(edit.label("rbac.authorization.k8s.io/aggregate-to-admin"), Some("true"));
    let selector = json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}]);
    assert_eq!(edit.at("aggregationRule.clusterRoleSelectors"), Some(&selector));
}

#[test]
fn every_binding_names_a_role_of_the_table() {
    let objects = policy();
    for binding in objects.iter().filter(|o| o.kind().ends_with("Binding")) {
        let (kind, name) = (binding.str_at("roleRef.kind").unwrap(), binding.str_at("roleRef.name").unwrap());
        let bound = objects.iter().any(|o| o.kind() == kind && o.name() == name && o.namespace() == binding.namespace());
        assert!(bound, "{} {}", binding.kind(), binding.name());
    }
}

#[test]
fn adds_what_is_missing_unless_told_not_to() {
    let wanted = find("ClusterRole", "system:discovery");
    let mut found = wanted.clone();
    found.set("rules", json!([{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]));
    assert_eq!(missing_rules(&found, &wanted), wanted.list_at("rules"));
    found.set_annotation("rbac.authorization.kubernetes.io/autoupdate", "false");
    assert!(missing_rules(&found, &wanted).is_empty());
}

#[test]
fn the_kubernetes_service_leads_to_the_advertised_address() {
    let at = Advertised { service: [10, 96, 0, 1].into(), endpoint: [10, 128, 0, 1].into(), port: 6443 };
    let objects = kubernetes_service(at);
    assert_eq!(objects[0].at("spec.clusterIP"), Some(&json!("10.96.0.1")));
    assert_eq!(objects[1].list_at("subsets")[0]["addresses"][0]["ip"], "10.128.0.1");
    assert_eq!(objects[2].list_at("endpoints")[0]["addresses"], json!(["10.128.0.1"]));
}
