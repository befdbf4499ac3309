# Every target gets what it needs from apt first (only what is missing) and then calls cargo.
# make run | test | test-vm GROUPS="…" | test-vm-all | bench | counts | fuzz SECONDS=10 | soak MINUTES=5 | lint | doc | audit | miri | dist
# make install PREFIX=/usr/local DESTDIR=

MINUTES ?= 5
FUZZ_SECONDS ?= $(or $(SECONDS),10)
CASES ?= 5000
PREFIX ?= /usr/local
export PATH := $(PATH):$(HOME)/.cargo/bin

run:
	@dev/setup.sh run
	@dev/demo.sh

test:
	@dev/setup.sh test
	@cargo xtask test

test-vm:
	@dev/setup.sh vm
	@dev/vm/test.sh $(GROUPS)

test-vm-all:
	@dev/setup.sh vm
	@dev/vm/test.sh all

bench:
	@dev/setup.sh bench
	@cargo xtask bench

counts:
	@dev/setup.sh bench
	@cargo xtask bench --only counts

fuzz:
	@dev/setup.sh fuzz
	@cargo xtask fuzz --seconds $(FUZZ_SECONDS) --cases $(CASES)

soak:
	@dev/setup.sh run
	@cargo xtask soak --minutes $(MINUTES)

lint:
	@dev/setup.sh run
	@cargo xtask lint

doc:
	@dev/setup.sh run
	@cargo xtask doc

audit:
	@dev/setup.sh run
	@cargo xtask audit

miri:
	@dev/setup.sh run
	@cargo xtask miri

dist:
	@dev/setup.sh run
	@cargo xtask dist

install:
	@dev/setup.sh run
	@cargo xtask install --prefix $(DESTDIR)$(PREFIX)

.PHONY: run test test-vm test-vm-all bench counts fuzz soak lint doc audit miri dist install
