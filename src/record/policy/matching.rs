//! Whether a rule matches a request: upstream's `ruleMatches`, condition by condition.

use super::{Attributes, GroupResources, Resource, Rule, Target};

/// Whether all that the rule asks for is so. Names compare exactly; `*` means something in groups, resources and
/// paths only.
pub(super) fn matches(rule: &Rule, attributes: &Attributes<'_>) -> bool {
    let users = rule.users.is_empty() || has(&rule.users, &attributes.user);
    let groups = rule.user_groups.is_empty() || attributes.groups.iter().any(|group| has(&rule.user_groups, &group));
    let verbs = rule.verbs.is_empty() || has(&rule.verbs, &attributes.verb);
    users && groups && verbs && target_matches(rule, &attributes.target)
}

fn target_matches(rule: &Rule, target: &Target<'_>) -> bool {
    let asks_for_resources = !rule.namespaces.is_empty() || !rule.resources.is_empty();
    match target {
        Target::Resource(resource) if asks_for_resources => {
            (rule.namespaces.is_empty() || has(&rule.namespaces, &resource.namespace))
                && (rule.resources.is_empty() || rule.resources.iter().any(|entry| resource_matches(entry, resource)))
        }
        Target::Path(_) if asks_for_resources => false,
        _ if rule.non_resource_urls.is_empty() => true,
        Target::Resource(_) => false,
        Target::Path(path) => rule.non_resource_urls.iter().any(|pattern| path_matches(pattern, path)),
    }
}

fn resource_matches(entry: &GroupResources, asked: &Resource<'_>) -> bool {
    if entry.group != asked.group && entry.group != "*" {
        return false;
    }
    if entry.resources.is_empty() {
        return true;
    }
    let name = entry.resource_names.is_empty() || has(&entry.resource_names, &asked.name);
    name && entry.resources.iter().any(|pattern| pattern_matches(pattern, asked))
}

/// `*` is everything, subresources included; `pods` is not `pods/log`, but `pods/*` is `pods` as well.
fn pattern_matches(pattern: &str, asked: &Resource<'_>) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => asked.subresource.is_empty() && pattern == asked.resource,
        Some(("*", subresource)) if !asked.subresource.is_empty() && subresource == asked.subresource => true,
        Some((resource, "*")) => resource == asked.resource,
        Some((resource, subresource)) => {
            !asked.subresource.is_empty() && resource == asked.resource && subresource == asked.subresource
        }
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}
