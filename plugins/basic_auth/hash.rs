//! Password hashes in the formats of `htpasswd`, `openssl passwd` and `mkpasswd`. Comparison takes constant time.

use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use md5::Md5;
use moongate_config::Problem;
use sha_crypt::{Sha256Params, Sha512Params};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// bcrypt's own base64. The last character of a salt has unused bits.
const BCRYPT_64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The highest accepted costs: beyond them a login takes seconds.
const HIGHEST_COST: u32 = 15;
const MOST_ROUNDS: usize = 1_000_000;
/// crypt(3)'s default.
const USUAL_ROUNDS: usize = 5000;

/// A password's hash.
pub(super) struct Hash {
    format: HashFormat,
    /// The approximate time in microseconds; 0 if it is too short for another thread.
    cost: u64,
}

enum HashFormat {
    Bcrypt { cost: u32, salt: [u8; 16], digest: [u8; 23] },
    Sha512 { rounds: usize, salt: Box<[u8]>, digest: Box<[u8]> },
    Sha256 { rounds: usize, salt: Box<[u8]>, digest: Box<[u8]> },
    Md5 { magic: &'static str, salt: Box<[u8]>, digest: Box<[u8]> },
    Sha1 { salt: Box<[u8]>, digest: [u8; 20] },
}

impl Hash {
    /// Parses a hash by its prefix.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        let hash = if starts(&["$2y$", "$2b$", "$2a$"]) {
            bcrypt(&text[4..])
        } else if starts(&["$6$", "$5$"]) {
            sha_crypt(text)
        } else if starts(&["$apr1$", "$1$"]) {
            md5_crypt(text)
        } else if starts(&["{SHA}", "{SSHA}"]) {
            sha1(text)
        } else {
            return Err(Problem::new("unknown password hash format").help(
                "`htpasswd -nB NAME` prints one; bcrypt, $6$, $5$, $apr1$, $1$, {SHA} and {SSHA} are known",
            ));
        };
        hash.ok_or_else(|| {
            Problem::new("malformed password hash").help("`htpasswd -nB NAME` prints a whole one")
        })?
    }

    /// The approximate time of the computation in microseconds; 0 if it is too short for another thread.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether it is the hash of this password.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        match &self.format {
            HashFormat::Bcrypt { cost, salt, digest } => {
                // bcrypt hashes the password with a final NUL, 72 bytes at most.
                let mut whole = [password, &[0]].concat();
                whole.truncate(72);
                bcrypt::bcrypt(*cost, *salt, &whole)[..23].ct_eq(digest).into()
            }
            HashFormat::Sha512 { rounds, salt, digest } => Sha512Params::new(*rounds)
                .and_then(|params| sha_crypt::sha512_crypt_b64(password, salt, &params))
                .is_ok_and(|text| text.as_bytes().ct_eq(digest).into()),
            HashFormat::Sha256 { rounds, salt, digest } => Sha256Params::new(*rounds)
                .and_then(|params| sha_crypt::sha256_crypt_b64(password, salt, &params))
                .is_ok_and(|text| text.as_bytes().ct_eq(digest).into()),
            HashFormat::Md5 { magic, salt, digest } => md5_of(password, magic, salt).ct_eq(digest).into(),
            HashFormat::Sha1 { salt, digest } => {
                let computed = Sha1::new().chain_update(password).chain_update(salt).finalize();
                computed[..].ct_eq(digest).into()
            }
        }
    }
}

/// The result of a parser of one format: `None` for a malformed hash, or an error for a rejected one.
type ParseResult = Option<Result<Hash, Problem>>;

/// `10$` and 53 characters: the salt and the digest.
fn bcrypt(rest: &str) -> ParseResult {
    let (cost, rest) = rest.split_once('$').filter(|(cost, rest)| cost.len() == 2 && rest.len() == 53)?;
    let cost = cost.parse::<u32>().ok().filter(|cost| *cost >= 4)?;
    let salt = BCRYPT_64.decode(rest.get(..22)?).ok()?.try_into().ok()?;
    let digest = BCRYPT_64.decode(rest.get(22..)?).ok()?.try_into().ok()?;
    if cost > HIGHEST_COST {
        let problem = Problem::new(format!("a bcrypt of cost {cost} takes seconds for each login"));
        return Some(Err(problem.help(format!("at most {HIGHEST_COST}: `htpasswd -nB -C 12 NAME`"))));
    }
    Some(Ok(Hash { format: HashFormat::Bcrypt { cost, salt, digest }, cost: 40 << cost }))
}

/// `$6$rounds=5000$salt$digest`; the rounds may be left out.
fn sha_crypt(text: &str) -> ParseResult {
    let rest = &text[3..];
    let (rounds, rest) = match rest.strip_prefix("rounds=").and_then(|rest| rest.split_once('$')) {
        Some((rounds, rest)) => (rounds.parse::<usize>().ok()?.max(1000), rest),
        None => (USUAL_ROUNDS, rest),
    };
    let (salt, digest) = rest.split_once('$')?;
    let is_512 = text.starts_with("$6$");
    if digest.len() != if is_512 { 86 } else { 43 } || !digest.bytes().all(of_crypt) {
        return None;
    }
    if rounds > MOST_ROUNDS {
        let problem = Problem::new(format!("a hash of {rounds} rounds takes seconds for each login"));
        return Some(Err(problem.help(format!("at most {MOST_ROUNDS}: `mkpasswd -m sha-512 -R 100000`"))));
    }
    let salt = salt.as_bytes();
    let salt = salt[..salt.len().min(16)].into();
    let digest = digest.as_bytes().into();
    let format = match is_512 {
        true => HashFormat::Sha512 { rounds, salt, digest },
        false => HashFormat::Sha256 { rounds, salt, digest },
    };
    Some(Ok(Hash { format, cost: rounds as u64 }))
}

/// `$apr1$salt$digest`.
fn md5_crypt(text: &str) -> ParseResult {
    let magic = if text.starts_with("$1$") { "$1$" } else { "$apr1$" };
    let (salt, digest) = text.get(magic.len()..)?.split_once('$')?;
    let salt = salt.as_bytes();
    let fits = digest.len() == 22 && digest.bytes().all(of_crypt);
    let format =
        HashFormat::Md5 { magic, salt: salt[..salt.len().min(8)].into(), digest: digest.as_bytes().into() };
    fits.then_some(Ok(Hash { format, cost: 400 }))
}

/// `{SHA}` and `{SSHA}` with the digest, followed by the salt.
fn sha1(text: &str) -> ParseResult {
    let (name, encoded) = text.split_once('}')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (digest, salt) = bytes.split_first_chunk::<20>()?;
    let format = HashFormat::Sha1 { salt: salt.into(), digest: *digest };
    ((name == "{SHA") == salt.is_empty()).then_some(Ok(Hash { format, cost: 0 }))
}

/// crypt(3)'s alphabet.
const CRYPT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn of_crypt(byte: u8) -> bool {
    CRYPT.contains(&byte)
}

/// MD5-crypt, or apr1 with Apache's prefix: a thousand rounds of MD5 over changing orders of the password, the salt
/// and the previous digest.
fn md5_of(password: &[u8], magic: &str, salt: &[u8]) -> [u8; 22] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(16) {
        first.update(&inner[..chunk.len()]);
    }
    let mut left = password.len();
    while left > 0 {
        first.update(if left & 1 == 1 { &[0] } else { &password[..1] });
        left >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let (before, behind) = match round % 2 {
            0 => (&digest[..], password),
            _ => (password, &digest[..]),
        };
        let mut next = Md5::new().chain_update(before);
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        digest = next.chain_update(behind).finalize();
    }
    letters(&digest.into())
}

/// The digest in crypt(3)'s alphabet, in MD5-crypt's byte order.
fn letters(digest: &[u8; 16]) -> [u8; 22] {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut letters = [0; 22];
    let last = u32::from(digest[11]);
    let groups =
        ORDER.iter().map(|group| group.iter().fold(0, |bits, at| bits << 8 | u32::from(digest[*at])));
    for (mut bits, four) in groups.chain([last]).zip(letters.chunks_mut(4)) {
        for letter in four {
            *letter = CRYPT[(bits & 63) as usize];
            bits >>= 6;
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    /// Generated by crypt(3) and openssl.
    const SESAME: [&str; 6] = [
        "$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O",
        "$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O",
        "$6$rounds=1000$saltsalt$5Oji4y.RQw4TBqlwXcGLBsxSL7.Pw5hdIpFnzMJTl.OaKsU3EiPTP5NseI3oKDT8iioErVqshwXGd40hlWBLx1",
        "$5$saltsalt$Arv3XkXcPR5LHLrzVCBdKV5hwRocYIyFvUvGa9tbc06",
        "$1$saltsalt$J3RStOYaRn/5Iz9DGbAnx1",
        "$apr1$saltsalt$1wcO0UXrrrYuRqru5simD1",
    ];

    #[test]
    fn each_format_verifies_its_password() {
        let salted =
            [&Sha1::new().chain_update("sesame").chain_update("salt").finalize()[..], b"salt"].concat();
        let salted = format!("{{SSHA}}{}", STANDARD.encode(salted));
        let plain = format!("{{SHA}}{}", STANDARD.encode(Sha1::digest("sesame")));
        for text in SESAME.iter().copied().chain([salted.as_str(), plain.as_str()]) {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.is_of(b"sesame"), "{text}");
            for wrong in [&b"Sesame"[..], b"", b"sesame\0", b"sesame "] {
                assert!(!hash.is_of(wrong), "{text} {wrong:?}");
            }
        }
    }

    #[test]
    fn unusual_passwords_hash_as_in_other_programs() {
        for (text, password) in [
            ("$apr1$abcdefgh$Yy.FsOea6B5.Pjzw.n8mG/", "pässwort ß"),
            ("$apr1$ab$vv77ghmKwCAoaGfFCKWSr/", "p"),
            ("$1$abcdefgh$vC1VfPtXrM7gg0SwMlRkO/", "pässwort ß"),
            ("$5$abcdefgh$9.l2sGj49r/o6SzhP9EiLNAKHebQ.Gqe/1Gx7TKwyf.", "pässwort ß"),
            (
                "$6$abcdefgh$OeYmC6OE7wr/zw/HB9lddQx0kfpfU9Clh/6uzNNvIHADa0PU1PcLFl7ymNX9qSfZE0dBY3DYS84kvP6v9Jihf0",
                "pässwort ß",
            ),
            (
                "$6$saltsalt$qkTgsCrWMTAS9gBGcf9W60sFfH.hU0oTCAOJjhbz5tSp/sU3/xXZK4OFwCtq8lIIdpJ6CatVdOTSHKp97TPkt/",
                "",
            ),
            ("$apr1$saltsalt$a8ml/vK5HEjiZ5oypDWA7/", ""),
        ] {
            assert!(Hash::parse(text).unwrap().is_of(password.as_bytes()), "{text}");
        }
        // bcrypt uses 72 bytes.
        let hash = Hash::parse(SESAME[0]).unwrap();
        assert!(!hash.is_of(&[b'a'; 500]));
    }

    #[test]
    fn a_malformed_hash_is_refused_without_a_panic() {
        for text in
            SESAME.iter().copied().chain(["{SHA}", "sesame", "rl.3StKT.4T8M", "{PLAIN}x", "$2y$", "$6$é"])
        {
            for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                assert!(Hash::parse(&text[..end]).is_err(), "{text} cut at {end}");
            }
        }
        let message = |text: &str| Hash::parse(text).err().unwrap().message;
        assert!(message(&SESAME[0].replace("$05$", "$31$")).contains("takes seconds"));
        assert!(message(&SESAME[2].replace("=1000", "=999999999")).contains("takes seconds"));
        assert!(message(&SESAME[0].replace("$05$", "$03$")).contains("malformed"));
    }
}
