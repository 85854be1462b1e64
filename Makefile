# The whole developer interface. ARGS reaches the program: make run ARGS='--root impuls', make test ARGS='tests/unit -x'.
.PHONY: setup run test bench lint
ARGS =
BIN = .venv/bin

setup:
	@scripts/setup

run: setup
	@$(BIN)/spinney serve --self-check $(ARGS)

test: setup
	@$(BIN)/python -m pytest -q $(ARGS)

bench: setup
	@$(BIN)/python -m bench $(ARGS)

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
