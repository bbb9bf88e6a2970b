//! Templates of `moongate plugin new`. The files beside this one are complete: tests compile and run them
//! under the name `my_plugin`, which is replaced by the new plugin's name.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// The language of a plugin.
#[derive(Clone, Copy)]
pub(super) enum PluginLanguage {
    Native,
    Wasm,
    Luau,
}

/// The plugin's name in the templates.
const NAME: &str = "my_plugin";
/// The plugin's type name in the templates.
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

impl PluginLanguage {
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Native => NATIVE,
            Self::Wasm => WASM,
            Self::Luau => LUAU,
        }
    }

    /// The next steps, for the terminal.
    fn next(self, name: &str) -> String {
        match self {
            Self::Native => format!(
                "  cd {name} && cargo test                    runs its test\n  \
                 cargo run -- check -c moongate.yaml       checks a gateway with it\n"
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

/// Writes a plugin into a new directory; returns the text for the terminal.
///
/// # Errors
/// An invalid name, an existing directory, and I/O errors.
pub(super) fn write(name: &str, sort: PluginLanguage) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.bytes().all(fits) || name.len() > 64 {
        return Err(format!(
            "`{name}` is not a valid plugin name; use letters, digits, `-` and `_`, with a letter first"
        ));
    }
    let directory = Path::new(name);
    // `create_dir` fails on an existing directory, so existing work is never overwritten.
    fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("`{name}` already exists; nothing was written"),
        _ => format!("cannot create `{name}`: {error}"),
    })?;
    let mut message = format!("created {name}\n");
    for (file, template) in sort.files() {
        let file = rename_template(file, name);
        put(&directory.join(&file), &rename_template(template, name))
            .map_err(|error| format!("cannot write `{name}/{file}`: {error}"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(message, "  {name}/{file}");
    }
    let _ = write!(message, "next:\n{}", sort.next(name));
    Ok(message)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// The template with the new name: in Rust and in configurations with `_` for `-`, in lower case.
fn rename_template(template: &str, name: &str) -> String {
    let word = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    let kind = name.to_ascii_lowercase().replace('-', "_");
    let sort: String = name.split(['-', '_']).map(word).collect();
    // A script's file has the name of its directory.
    let file = format!("{NAME}.luau");
    template.replace(&file, &format!("{name}.luau")).replace(NAME, &kind).replace(TYPE, &sort)
}
