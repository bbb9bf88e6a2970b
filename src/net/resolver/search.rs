//! Search list: the absolute names of a host name (resolv.conf(5): `search`, `ndots`), and names that are
//! never queried.

/// The absolute names in query order, each with its final dot.
pub(super) fn candidates(host: &str, search: &[String], ndots: usize) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let absolute = format!("{host}.");
    let mut names: Vec<String> = Vec::with_capacity(search.len() + 1);
    let listed = search.iter().map(|domain| match domain.trim_matches('.') {
        "" => absolute.clone(),
        domain => format!("{host}.{domain}."),
    });
    if host.matches('.').count() >= ndots {
        names.push(absolute.clone());
        names.extend(listed);
    } else {
        names.extend(listed);
        names.push(absolute.clone());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Whether the name is `localhost` or below it (RFC 6761 §6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    last.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_as_resolv_conf_says() {
        let search = ["shop.svc.test".to_owned(), "test.".to_owned(), ".".to_owned()];
        let names = |host, ndots| candidates(host, &search, ndots);
        assert_eq!(names("web", 1), ["web.shop.svc.test.", "web.test.", "web."]);
        assert_eq!(names("web.shop", 1), ["web.shop.", "web.shop.shop.svc.test.", "web.shop.test."]);
        assert_eq!(names("web.shop", 5), ["web.shop.shop.svc.test.", "web.shop.test.", "web.shop."]);
        assert_eq!(names("web.shop.", 5), ["web.shop."]);
        assert_eq!(candidates("web", &[], 1), ["web."]);
    }

    #[test]
    fn localhost_is_every_name_below_it() {
        for host in ["localhost", "LOCALHOST.", "a.b.localhost"] {
            assert!(is_localhost(host), "{host}");
        }
        for host in ["localhost.test", "mylocalhost", "."] {
            assert!(!is_localhost(host), "{host}");
        }
    }
}
