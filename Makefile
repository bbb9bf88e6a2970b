# What the README's commands call. Rust, git and a C compiler are enough: cmake is installed when missing.
#
#   make run      the demo: two backends, the gateway before them, a page at http://127.0.0.1:8080/
#   make test     everything that has to hold, as CI runs it
#   make check    the quick part of it: format, lints, documentation, licences and advisories
#   make deny     installs cargo-deny, with which `make check` judges those; CI does it
#   make conf     every file of conf/ through `moongate check`
#   make bench    against nginx and HAProxy; see bench/
#   make autobahn the WebSocket conformance suite with and without the gateway; AUTOBAHN=full for all cases
#   make h2spec   the HTTP/2 conformance suite, where its binary is installed
#   make testssl  testssl.sh against Moongate and against nginx on Mozilla's intermediate profile
#   make apps     Jupyter, RabbitMQ and others of docs/guides/apps/ behind the gateway; installed when missing
#   make browser  Chromium opens its WebSocket over HTTP/2; installed when missing, skipped where that is impossible
#   make wasm-fixtures  builds the WebAssembly filters that tests run, from their sources
#   make fuzz     every fuzz target for FUZZ_SECONDS (60)
#   make release  the binary as it is shipped; takes minutes
#   make pgo      the same, built with a profile of itself at work; takes three times as long
#   make install  puts that binary, the service and a first configuration in place; PREFIX is /usr/local

CARGO        ?= cargo
CONF         ?= conf/moongate.yaml
FUZZ_SECONDS ?= 60
PREFIX       ?= /usr/local
SYSCONFDIR   ?= /etc
UNITDIR      ?= /etc/systemd/system

# Where .ci/tools puts a private cmake when the system's packages are out of reach.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

STEP := @.ci/step

.DEFAULT_GOAL := run
.PHONY: run test check conf bench autobahn h2spec browser testssl wasm-fixtures fuzz release pgo install tools full lints deny pebble haproxy apps install-apps

run: tools
	$(CARGO) run --profile quick -- demo -c $(CONF)

check: lints full
	$(STEP) format        $(CARGO) fmt --all --check
	$(STEP) lints         $(CARGO) clippy --workspace --all-targets --features full --quiet -- -D warnings
	$(STEP) documentation env RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --features full --no-deps --quiet
	$(STEP) deny          .ci/deny

# One build serves conf and the tests: that of the tests, for their features of tokio are others and
# would have every dependency built twice.
conf: full
	$(STEP) build         $(CARGO) test --workspace --features full --no-run --quiet
	$(STEP) conf          $(CARGO) test --workspace --features full --quiet --test docs every_file_of_conf

# The tests come last and have the last word: their summary is what a reader looks for.
# cargo-deny is installed before the checks that ask it.
test: deny check conf pebble haproxy install-apps
	$(CARGO) test --workspace --features full --no-fail-fast

bench: full
	bench/run

autobahn: tools
	tests/autobahn/run

h2spec: tools
	tests/h2spec/run

testssl: tools
	tests/testssl/run

browser: tools
	@if .ci/tools browser; then \
		$(CARGO) test --test it browser:: -- --ignored; \
	else \
		echo "browser: skipped: Chromium is missing and cannot be installed"; \
	fi

apps: full install-apps
	$(CARGO) test --workspace --features full --test apps

wasm-fixtures:
	crates/wasm/fixtures/build

# cargo-fuzz passes unstable flags; RUSTC_BOOTSTRAP lets the installed stable toolchain take them.
fuzz: tools
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 1; }
	@for target in $$($(CARGO) fuzz list); do \
		.ci/step "fuzz $$target" env RUSTC_BOOTSTRAP=1 \
			$(CARGO) fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

pgo: full
	bench/pgo

release: full
	$(CARGO) build --release --features full

# Without cargo on purpose: root copies, and does not build.
install:
	@test -x target/release/moongate || { echo "There is no release binary yet: make release"; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(SYSCONFDIR)/moongate $(DESTDIR)$(UNITDIR)
	install -m 755 target/release/moongate $(DESTDIR)$(PREFIX)/bin/moongate
	test -e $(DESTDIR)$(SYSCONFDIR)/moongate/moongate.yaml || \
		install -m 644 conf/moongate.yaml $(DESTDIR)$(SYSCONFDIR)/moongate/moongate.yaml
	sed 's|/usr/local/bin|$(PREFIX)/bin|' packaging/moongate.service > $(DESTDIR)$(UNITDIR)/moongate.service
	chmod 644 $(DESTDIR)$(UNITDIR)/moongate.service

tools:
	@.ci/tools

# The sandboxed hosts are in what is tested, measured and shipped; Luau is written in C++.
full:
	@.ci/tools full

lints:
	@.ci/tools lints

deny:
	@.ci/tools deny

pebble:
	@.ci/tools pebble

haproxy:
	@.ci/tools haproxy

install-apps:
	@.ci/tools apps
