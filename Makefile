# Build, test and install targets. Rust, git and a C compiler are required; cmake is installed if it is missing.
#
#   make run      the demo: two backends, the gateway in front of them, a page at http://127.0.0.1:8080/
#   make test     all checks and tests, as CI runs them
#   make check    the quick checks: format, lints, documentation, licences and advisories
#   make nginx    installs nginx, which a test of `moongate import` compares with the gateway; skipped if that fails
#   make redis    installs Redis, which the tests of shared limits run; skipped if that fails
#   make etcd     installs etcd, which the tests of discovery and of sources run; skipped if that fails
#   make prometheus  installs Prometheus, which the monitoring tests run; skipped if that fails
#   make deny     installs cargo-deny, which checks licences and advisories in `make check`
#   make conf     every file of conf/ through `moongate check`
#   make bench    benchmarks against nginx, HAProxy and stock Pingora; see bench/
#   make autobahn the WebSocket conformance suite with and without the gateway; AUTOBAHN=full for all cases
#   make h2spec   the HTTP/2 conformance suite, if its binary is installed
#   make clients  client and server libraries of seven languages with and without the gateway; takes minutes
#   make testssl  testssl.sh against Moongate and against nginx on Mozilla's intermediate profile
#   make apps     the applications of docs/guides/apps/ and the recipes of examples/ behind the gateway; installed if missing
#   make browser  the tests with Chromium; installed if missing, skipped if that fails
#   make screenshots  pictures of the live page, light, dark and narrow, in SCREENSHOTS (target/screenshots)
#   make docs     the documentation as a book with search in target/book; its links are verified
#   make images   docs/images/ from `moongate demo` after TRAFFIC (30) seconds; its ports must be free
#   make wasm-fixtures  builds the WebAssembly filters of the tests
#   make fuzz     every fuzz target for FUZZ_SECONDS (60)
#   make release  the release binary; takes minutes
#   make portable the release binary for every Linux with glibc 2.31 (Debian 11) or later; takes minutes
#   make deb      target/packages/*.deb with the portable binary
#   make image    target/packages/*-image.tar, a container image as an OCI archive
#   make rpm      target/packages/*.rpm
#   make dist     all packages, a tarball, its bill of materials (SBOM), checksums, and the section of the changelog
#   make packages-test  builds every package, and installs and runs each in a clean system; not part of `make test`,
#                 because of the minutes of the portable build
#   make pgo      the release binary with profile-guided optimization; takes three times as long
#   make install  installs the binary, completions, manual pages, the service and a default configuration; PREFIX is
#                 /usr/local

CARGO        ?= cargo
CONF         ?= conf/moongate.yaml
FUZZ_SECONDS ?= 60
SCREENSHOTS  ?= target/screenshots
PREFIX       ?= /usr/local
SYSCONFDIR   ?= /etc
UNITDIR      ?= /etc/systemd/system
BINARY       ?= target/release/moongate
# Debian 11. A build for the system's own libc would require that of the machine that builds.
GLIBC        ?= 2.31
TRIPLE       := $(shell uname -m)-unknown-linux-gnu
PORTABLE      = target/portable/$(TRIPLE)/release/moongate
PACKAGES      = target/packages
VERSION      := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
RELEASE       = moongate-$(VERSION)-$(TRIPLE)
SHARE         = $(DESTDIR)$(PREFIX)/share

# .ci/tools installs a private cmake there if it cannot install the system's package.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

STEP := @.ci/step

.DEFAULT_GOAL := run
.PHONY: portable deb image rpm tarball changelog dist packages-test $(PACKAGES)/root run test check conf bench autobahn h2spec clients browser screenshots images testssl wasm-fixtures fuzz release pgo install tools full lints deny pebble haproxy nginx prometheus redis etcd apps install-apps install-browser docs mdbook

run: tools
	$(CARGO) run --profile quick -- demo -c $(CONF)

check: lints full
	$(STEP) format        $(CARGO) fmt --all --check
	$(STEP) format-bench  $(CARGO) fmt --manifest-path bench/Cargo.toml --all --check
	$(STEP) format-fuzz   $(CARGO) fmt --manifest-path fuzz/Cargo.toml --all --check
	$(STEP) format-clients $(CARGO) fmt --manifest-path tests/clients/rust/Cargo.toml --all --check
	$(STEP) lints         $(CARGO) clippy --workspace --all-targets --features full --quiet -- -D warnings
	$(STEP) lints-bench   $(CARGO) clippy --manifest-path bench/Cargo.toml -p moongate-bench --all-targets --target-dir target/bench --quiet -- -D warnings
	$(STEP) lints-fuzz    env RUSTFLAGS="--cfg fuzzing" $(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --quiet -- -D warnings
	$(STEP) documentation env RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --features full --no-deps --quiet
	$(STEP) deny          .ci/deny

# conf uses the build of the tests: the tests enable more features of tokio, which would compile every dependency twice.
conf: full
	$(STEP) build         $(CARGO) test --workspace --features full --no-run --quiet
	$(STEP) conf          $(CARGO) test --workspace --features full --quiet --test docs every_file_of_conf

# The tests run last, so that their summary ends the output. cargo-deny is installed before the checks that use it.
test: deny check conf pebble haproxy nginx prometheus redis etcd install-apps install-browser
	$(CARGO) test --workspace --features full --no-fail-fast

bench: full
	bench/run

autobahn: tools
	tests/autobahn/run

h2spec: tools
	tests/h2spec/run

clients: full
	tests/clients/run

testssl: tools
	tests/testssl/run

browser: full install-browser
	$(CARGO) test --workspace --features full --test browser

screenshots: install-browser
	node tests/browser/screenshots.mjs $(SCREENSHOTS)

images: full install-browser
	@.ci/tools pngquant
	$(CARGO) build --features full
	node tests/browser/images.mjs

docs: mdbook
	.ci/book

apps: full install-apps prometheus haproxy redis etcd
	$(CARGO) test --workspace --features full --test apps

wasm-fixtures:
	crates/wasm/fixtures/build

# cargo-fuzz passes unstable flags, which RUSTC_BOOTSTRAP enables on the stable toolchain.
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

# Zig is the C compiler and the linker here: it has the symbols of every glibc, and libc++ for Luau, statically linked.
portable: full
	@.ci/tools portable
	$(CARGO) zigbuild --release --features full --locked --target $(TRIPLE).$(GLIBC) --target-dir target/portable

$(PACKAGES)/root: portable
	packaging/stage $(PORTABLE) $(PACKAGES)/root

deb: $(PACKAGES)/root
	@.ci/tools deb
	rm -f $(PACKAGES)/*.deb
	$(CARGO) deb --no-build --no-strip --quiet --output $(PACKAGES)/

image: portable
	@.ci/tools image
	packaging/image/root $(PORTABLE) $(PACKAGES)/image
	rm -f $(PACKAGES)/*-image.tar
	packaging/image/archive $(PACKAGES)/image $(VERSION) $(PACKAGES)/$(RELEASE)-image.tar

rpm: $(PACKAGES)/root
	@.ci/tools rpm
	rm -f $(PACKAGES)/*.rpm
	$(CARGO) generate-rpm --output $(PACKAGES)/ --auto-req disabled

# Version and contents come from Cargo.toml and the built files alone.
tarball: $(PACKAGES)/root
	@.ci/tools tarball
	rm -f $(PACKAGES)/*.tar.gz $(PACKAGES)/*.cdx.json
	packaging/tarball $(PACKAGES)/root $(RELEASE) $(PACKAGES)
	packaging/bill-of-materials $(TRIPLE) $(PACKAGES)/$(RELEASE).cdx.json

# The notes of the release: `make changelog` prints the section of the version.
changelog:
	@packaging/changelog-section $(VERSION)

dist: deb rpm image tarball
	packaging/changelog-section $(VERSION) > $(PACKAGES)/changelog-$(VERSION).md
	cd $(PACKAGES) && sha256sum *.deb *.rpm *.tar *.tar.gz *.cdx.json changelog-$(VERSION).md | grep -v debian- > SHA256SUMS

packages-test: dist
	@.ci/tools packages-test
	tests/packages/run

# Without cargo on purpose: root compiles nothing. The binary writes its completions and manual pages.
install:
	@test -x $(BINARY) || { echo "$(BINARY) does not exist yet: make release"; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(SYSCONFDIR)/moongate $(DESTDIR)$(UNITDIR)
	install -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/moongate
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(BINARY) man --output $(SHARE)/man/man1
	$(BINARY) completions bash > $(SHARE)/bash-completion/completions/moongate
	$(BINARY) completions zsh  > $(SHARE)/zsh/site-functions/_moongate
	$(BINARY) completions fish > $(SHARE)/fish/vendor_completions.d/moongate.fish
	test -e $(DESTDIR)$(SYSCONFDIR)/moongate/moongate.yaml || \
		install -m 644 conf/moongate.yaml $(DESTDIR)$(SYSCONFDIR)/moongate/moongate.yaml
	sed 's|/usr/local/bin|$(PREFIX)/bin|; s|/etc/moongate|$(SYSCONFDIR)/moongate|' packaging/moongate.service > $(DESTDIR)$(UNITDIR)/moongate.service
	chmod 644 $(DESTDIR)$(UNITDIR)/moongate.service

tools:
	@.ci/tools

# Tests, benchmarks and releases include the sandboxed hosts; Luau needs a C++ compiler.
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

nginx:
	@.ci/tools nginx

prometheus:
	@.ci/tools prometheus

redis:
	@.ci/tools redis

etcd:
	@.ci/tools etcd

mdbook:
	@.ci/tools mdbook

install-apps:
	@.ci/tools apps

install-browser:
	@.ci/tools browser
