//! What `moongate plugin new` writes. The templates beside this file are real: tests compile and run them
//! under the name `my_plugin`, which becomes the new plugin's.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// A sort of plugin.
#[derive(Clone, Copy)]
pub(super) enum Sort {
    Native,
    Wasm,
    Luau,
}

/// The name under which the templates are written.
const NAME: &str = "my_plugin";
/// The same as the name of a type.
const TYPE: &str = "MyPlugin";

const NATIVE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("scaffold/native/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("scaffold/native/lib.rs")),
    ("src/main.rs", include_str!("scaffold/native/main.rs.txt")),
    ("moongate.yaml", include_str!("scaffold/native/moongate.yaml.txt")),
];

const WASM: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("scaffold/wasm/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("scaffold/wasm/lib.rs")),
    ("moongate.yaml", include_str!("scaffold/wasm/moongate.yaml.txt")),
];

const LUAU: &[(&str, &str)] = &[
    ("my_plugin.luau", include_str!("scaffold/luau/my_plugin.luau")),
    ("moongate.yaml", include_str!("scaffold/luau/moongate.yaml.txt")),
];

impl Sort {
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Native => NATIVE,
            Self::Wasm => WASM,
            Self::Luau => LUAU,
        }
    }

    /// What to do next.
    fn next(self, name: &str) -> String {
        match self {
            Self::Native => format!(
                "  cd {name} && cargo test                    its own test\n  \
                 cargo run -- check -c moongate.yaml       a gateway with it\n"
            ),
            Self::Wasm => format!(
                "  cd {name} && rustup target add wasm32-wasip1\n  \
                 cargo build --release --target wasm32-wasip1\n  \
                 moongate plugin test target/wasm32-wasip1/release/{}.wasm\n",
                name.replace('-', "_")
            ),
            Self::Luau => format!(
                "  moongate plugin test {name}/{name}.luau --request 'GET /hello'\n  \
                 moongate check -c {name}/moongate.yaml\n"
            ),
        }
    }
}

/// Writes a plugin into a new directory; gives what to tell about it.
///
/// # Errors
/// A name that cannot be one, a directory that is there already, and whatever the disk says.
pub(super) fn write(name: &str, sort: Sort) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.bytes().all(fits) || name.len() > 64 {
        return Err(format!(
            "`{name}` cannot be a plugin's name; it has letters, digits, `-` and `_`, and begins with a letter"
        ));
    }
    let directory = Path::new(name);
    // Making it here, and not taking one that is there, is what keeps somebody's work from being overwritten.
    fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("`{name}` is there already; nothing was written"),
        _ => format!("cannot make `{name}`: {error}"),
    })?;
    let mut told = format!("{name}: a new plugin\n");
    for (file, template) in sort.files() {
        let file = named(file, name);
        put(&directory.join(&file), &named(template, name))
            .map_err(|error| format!("cannot write `{name}/{file}`: {error}"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(told, "  {name}/{file}");
    }
    let _ = write!(told, "next:\n{}", sort.next(name));
    Ok(told)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// The template under the new name. Rust and the configuration know it with `_`, and lower case.
fn named(template: &str, name: &str) -> String {
    let word = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    let kind = name.to_ascii_lowercase().replace('-', "_");
    let sort: String = name.split(['-', '_']).map(word).collect();
    // A script is called as its directory is.
    let file = format!("{NAME}.luau");
    template.replace(&file, &format!("{name}.luau")).replace(NAME, &kind).replace(TYPE, &sort)
}
