"""The run of `make check-peers`, without the programs that it compares with."""

import sys

from graft_server import ROOT

sys.path[:0] = [str(ROOT / "scripts/bench"), str(ROOT / "scripts/peer_checks")]
import checks  # noqa: E402


def test_all_checks_run_whatever_one_raises(capsys):
    def raises(error):
        def check(_):
            raise error
        return check

    given = {
        "group/differs": raises(checks.Differs("other weights")), "group/breaks": raises(KeyError("model_type")),
        "group/exits": raises(SystemExit(3)), "group/holds": lambda workplace: f"{workplace} is the same",
    }
    assert checks.run(given, "it") == ["group/differs", "group/breaks", "group/exits"]
    assert capsys.readouterr().out.splitlines() == [
        "group/differs: other weights: DIFFERS", "group/breaks: KeyError: 'model_type': FAILED",
        "group/exits: SystemExit: 3: FAILED", "group/holds: it is the same: agrees",
        "1 of 4 checks agree; not group/differs, group/breaks, group/exits",
    ]
    assert checks.run({"group/holds": given["group/holds"]}, "it") == []


def test_a_module_that_cannot_be_loaded_is_a_check_that_fails(monkeypatch):
    monkeypatch.setattr(checks, "CHECKS", {})
    checks.load("no_such_module")
    assert checks.run(checks.CHECKS, None) == ["no_such_module/import"]
