//! Path parameters: the `;name=value` of a segment, which servlet containers remove before they match a path
//! (Jakarta Servlet 6.0 §3.5.2). RFC 3986 §3.3 leaves their meaning to the server.

/// The start of parameters. A server that decodes a path before it splits it reads `%3B` as `;`.
const BEGINS: [&str; 3] = [";", "%3B", "%3b"];

/// The end of a segment and its parameters. Escaped slashes are included for servers that decode them first.
const ENDS: [&str; 5] = ["/", "%2F", "%2f", "%5C", "%5c"];

/// The path without the parameters of its segments (`/a;x=1/b` is `/a/b`); `None` if it has none. A segment that
/// consists of parameters is removed with its slash (`/;x/b` is `/b`), because such servers read `//` as `/`.
#[must_use]
pub fn without_parameters(path: &str) -> Option<String> {
    if !has_parameters(path) {
        return None;
    }
    let mut bare = String::with_capacity(path.len());
    let mut rest = path;
    let mut inside = false;
    while let Some(next) = rest.chars().next() {
        let end = ENDS.iter().find(|end| rest.starts_with(**end));
        let begin = BEGINS.iter().find(|begin| rest.starts_with(**begin));
        let taken = match (end, begin) {
            (Some(end), _) => {
                if !(inside && *end == "/" && bare.ends_with('/')) {
                    bare.push_str(end);
                }
                inside = false;
                end.len()
            }
            (None, Some(begin)) => {
                inside = true;
                begin.len()
            }
            (None, None) => {
                if !inside {
                    bare.push(next);
                }
                next.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Some(bare)
}

/// Whether a segment of the path has parameters.
#[must_use]
pub fn has_parameters(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Two scans for one byte are faster than one for several texts, and almost no path has either byte.
    bytes.contains(&b';') || bytes.contains(&b'%') && BEGINS.iter().any(|begin| path.contains(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_end_with_their_segment() {
        for (path, bare) in [
            ("/ip;a=b/x", "/ip/x"),
            ("/admin;x", "/admin"),
            ("/admin;", "/admin"),
            ("/a;x;y=/b;z", "/a/b"),
            ("/a%3Bx/b%3b", "/a/b"),
            ("/;x/admin", "/admin"),
            ("/;x/;y/admin", "/admin"),
            ("/;x", "/"),
            ("/a/;x", "/a/"),
            ("/a//;x//b", "/a///b"),
            ("/a;x%2Fb", "/a%2Fb"),
            ("/;%2F/", "/%2F/"),
            ("/a;x%5cb", "/a%5cb"),
            ("/\u{e9};\u{e9}/b", "/\u{e9}/b"),
        ] {
            assert_eq!(without_parameters(path).as_deref(), Some(bare), "{path}");
        }
        for path in ["/", "/a/b", "/a%20b", "/a%3Ab", "*", ""] {
            assert_eq!(without_parameters(path), None, "{path}");
        }
    }
}
