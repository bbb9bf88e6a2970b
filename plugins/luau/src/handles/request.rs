//! The request: `req`, and what `ws` shares with it.

use super::respond;
use crate::fields;
use crate::stage::{Scene, look};
use http::Method;
use mlua::{BString, Error, Lua, Result, Table, UserData, UserDataFields, UserDataMethods, UserDataRegistry};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The longest note, in bytes.
const LONGEST_NOTE: usize = 1024;
/// How many notes a request may have before a script can add no more.
const MOST_NOTES: usize = 32;
/// How many different keys the scripts of a process may give to their notes.
const MOST_KEYS: usize = 256;

/// The request of one call.
#[derive(Clone, Copy)]
pub(crate) struct Req(pub(crate) u64);

/// A handle of one call.
pub(super) trait Turn {
    fn turn(&self) -> u64;
}

impl Turn for Req {
    fn turn(&self) -> u64 {
        self.0
    }
}

impl UserData for Req {
    fn register(registry: &mut UserDataRegistry<Self>) {
        registry.enable_namecall();
        readers(registry);
        registry.add_method("set_header", |_, this, (name, value): (BString, BString)| {
            look(this.0, |scene| fields::set(&mut open(scene)?.exchange.headers, &name, &value))
        });
        registry.add_method("add_header", |_, this, (name, value): (BString, BString)| {
            look(this.0, |scene| fields::add(&mut open(scene)?.exchange.headers, &name, &value))
        });
        registry.add_method("remove_header", |_, this, name: BString| {
            look(this.0, |scene| fields::remove(&mut open(scene)?.exchange.headers, &name))
        });
        registry.add_method("set_method", |_, this, method: BString| {
            let method = Method::from_bytes(&method).map_err(|_| Error::runtime("this is not a method"))?;
            look(this.0, |scene| {
                open(scene)?.exchange.set_method(method);
                Ok(())
            })
        });
        registry.add_method("set_path", |_, this, path: String| {
            if path.contains('?') {
                return Err(Error::runtime("a path has no `?`; `set_target` takes path and query"));
            }
            look(this.0, |scene| {
                let query = scene.exchange.query().map(|query| format!("?{query}")).unwrap_or_default();
                set_target(scene, &format!("{path}{query}"))
            })
        });
        registry.add_method("set_target", |_, this, target: String| {
            look(this.0, |scene| set_target(scene, &target))
        });
        registry.add_method("respond", |_, this, given| look(this.0, |scene| respond(scene, given)));
        registry.add_method("skip_body", |_, this, ()| {
            look(this.0, |scene| {
                open(scene)?.outcome.skip_body = true;
                Ok(())
            })
        });
    }
}

/// What can be read of a request in every call, and what can be kept beside it.
pub(super) fn readers<T: Turn + 'static>(registry: &mut UserDataRegistry<T>) {
    words(registry);
    registry.add_method("header", |lua, this, name: BString| {
        look(this.turn(), |scene| fields::get(lua, &scene.exchange.headers, &name))
    });
    registry.add_method("headers", |lua, this, ()| {
        look(this.turn(), |scene| fields::all(lua, &scene.exchange.headers))
    });
    registry.add_method("id", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.request_id()))
    });
    registry.add_method("note", |_, this, (key, value): (String, String)| {
        look(this.turn(), |scene| note(scene, &key, value))
    });
    registry.add_field_method_get("ctx", |lua, this| look(this.turn(), |scene| ctx(lua, scene)));
}

/// The request in single words.
fn words<T: Turn + 'static>(registry: &mut UserDataRegistry<T>) {
    registry.add_method("method", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.method().as_str()))
    });
    registry.add_method("path", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.path()))
    });
    registry.add_method("query", |lua, this, ()| {
        look(this.turn(), |scene| scene.exchange.query().map(|query| lua.create_string(query)).transpose())
    });
    registry.add_method("host", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.request.host))
    });
    registry.add_method("scheme", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.request.scheme))
    });
    registry.add_method("client_ip", |_, this, ()| {
        look(this.turn(), |scene| Ok(scene.exchange.request.client.to_string()))
    });
    registry.add_method("route", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.request.route))
    });
    registry.add_method("listener", |lua, this, ()| {
        look(this.turn(), |scene| lua.create_string(scene.exchange.request.listener))
    });
}

/// A request that can still be changed.
fn open<'x, 's, 'e, 'a>(scene: &'x mut Scene<'s, 'e, 'a>) -> Result<&'x mut Scene<'s, 'e, 'a>> {
    if scene.phase.before_the_backend() {
        return Ok(scene);
    }
    Err(Error::runtime(format!("the request can no longer be changed in {}", scene.phase.name())))
}

fn set_target(scene: &mut Scene<'_, '_, '_>, target: &str) -> Result<()> {
    open(scene)?.exchange.set_target(target).map_err(|bad| Error::runtime(bad.to_string()))
}

/// The request's own table.
fn ctx(lua: &Lua, scene: &mut Scene<'_, '_, '_>) -> Result<Table> {
    if let Some(table) = &scene.ctx {
        return Ok(table.clone());
    }
    let table = lua.create_table()?;
    Ok(scene.ctx.insert(table).clone())
}

fn note(scene: &mut Scene<'_, '_, '_>, key: &str, value: String) -> Result<()> {
    if value.len() > LONGEST_NOTE {
        return Err(Error::runtime(format!("a note of {} bytes is too long", value.len())));
    }
    if scene.exchange.running.notes().len() >= MOST_NOTES {
        return Err(Error::runtime(format!("this request has {MOST_NOTES} notes already")));
    }
    scene.exchange.note(lasting(key)?, value);
    Ok(())
}

/// The key for as long as the process lives: the access log's keys are few, and the same for every request.
fn lasting(key: &str) -> Result<&'static str> {
    static KEYS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = keys.get(key) {
        return Ok(known);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        return Err(Error::runtime("a note's key has 1 to 64 letters, digits, `_`, `-` and `.`"));
    }
    if keys.len() >= MOST_KEYS {
        return Err(Error::runtime(format!("{MOST_KEYS} different keys of notes are in use already")));
    }
    let key: &'static str = Box::leak(key.into());
    keys.insert(key);
    Ok(key)
}
