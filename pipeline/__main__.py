"""The command line: every stage, the whole chain, and the people's commands."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Sequence

STAGE_HELP = {
    "ingest": "take a snapshot of the source as known at the cut-off",
    "validate": "set bad rows apart, stop where there are too many",
    "prepare": "split into the rows that train and the later rows that judge",
    "train": "fit the model and track it",
    "evaluate": "judge candidate and champion on the same rows",
    "register": "write the model package and register a version",
    "deploy": "roll the version out to the servers, or keep the old one",
    "detect_drift": "hold the newest complete day, and the windows that end with it, against the champion's reference",
    "measure_performance": "measure the champion where labels are known, estimate it where they are not",
    "decide_retraining": "nothing, retrain, roll back or call a person, with reasons",
}
PEOPLE_HELP = {
    "status": "who answers for each model, and what was decided last",
    "history": "who was champion when, and why",
    "promote": "put a version on trial, or make it champion",
    "rollback": "let an earlier champion answer again",
    "approve": "answer for a person, where promotion waits for one",
    "verify-ledger": "check every line of the ledger",
    "why": "trace a prediction back to model, run, data, code and decision",
    "reproduce": "make a version again from what was recorded, and compare",
    "close-breaker": "let retrainings begin again, after a person has looked",
}
EXIT_CODES = "exit status: 0 done, 1 failed, 2 bad usage, 3 refused by the gate"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into one clear message and an exit status."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if not hasattr(parsed, "command"):
        parser.print_help()
        return 2
    from pipeline.errors import EvergreenError

    try:
        return int(parsed.command(parsed))
    except EvergreenError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, epilog=EXIT_CODES)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    run = _command(commands, "run", "turn the whole chain once, without Airflow", _run)
    _about_a_run(run)
    for stage, text in STAGE_HELP.items():
        one = _command(commands, stage.replace("_", "-"), text, _stage)
        one.set_defaults(stage=stage)
        _about_a_run(one)
        one.add_argument("--record", metavar="FILE", help="also write the stage's record to this file")
        if stage == "validate":
            one.add_argument("--repin", action="store_true", help="forget the pinned schema and pin the one found now")
    watch = _command(commands, "watch", "look for drift, measure performance, decide; and do it where asked", _watch)
    _about_a_run(watch)
    watch.add_argument("--act", action="store_true", help="retrain or roll back where that was decided")
    rollout = _command(commands, "judge-rollout", "judge a challenger on live traffic, and move the ramp", _rollout)
    _about_a_run(rollout)
    rollout.add_argument("--act", action="store_true", help="do it although the model file leaves it to people")
    replay = _command(
        commands, "replay", "turn the loop over past data under several policies, and price them", _replay
    )
    _replay_arguments(replay)
    drill = _command(
        commands, "drill", "let the demo world happen to a real installation, and see the loop hold", _drill
    )
    drill.add_argument("--folder", metavar="FOLDER", help="keep everything there (default: a temporary folder)")
    for name, text in PEOPLE_HELP.items():
        one = _command(commands, name, text, _people)
        one.set_defaults(name=name)
        _people_arguments(one, name)
    about = "the prediction log: compact, erase, retain, losses"
    _predictions_arguments(commands.add_parser("predictions", help=about, epilog=EXIT_CODES))
    new = _command(commands, "new", "write a model file from a data file, and say what is doubtful in it", _new)
    _new_arguments(new)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EXIT_CODES)
    command.set_defaults(command=action)
    command.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return command


def _about_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NAME", help="the model file models/NAME.yaml")
    parser.add_argument(
        "--cutoff", metavar="INSTANT", help="know nothing later than this (ISO 8601, UTC); default: now"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change a key of the model file for this run, such as training.seed=9",
    )  # fmt: skip


def _people_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "why":
        parser.add_argument("prediction_id", metavar="PREDICTION_ID", help="as it stands in the service's answer")
    if name in ("promote", "approve", "reproduce"):
        parser.add_argument("version", metavar="VERSION", help="a number, latest, champion or challenger")
    if name in ("history", "promote", "rollback", "approve", "reproduce", "status", "close-breaker"):
        parser.add_argument(
            "--model", required=name != "status", metavar="NAME", help="the model file models/NAME.yaml"
        )
    if name in ("promote", "rollback", "approve", "close-breaker"):
        parser.add_argument("--by", metavar="PERSON", help="who decides (default: the user of this machine)")
        parser.add_argument("--reason", default="by hand", metavar="TEXT", help="why; it stands in the ledger")
    if name == "history":
        parser.add_argument("--at", metavar="INSTANT", help="only who was champion then (ISO 8601, UTC)")
    if name == "promote":
        parser.add_argument(
            "--stage", default="production", choices=("production", "champion", "staging", "challenger"),
            help="default: %(default)s",
        )  # fmt: skip
        parser.add_argument("--overrule", action="store_true", help="promote although the gate says HOLD or REJECT")
    if name == "rollback":
        parser.add_argument("--to", type=int, metavar="VERSION", help="default: the champion before this one")
    if name == "approve":
        parser.add_argument("--reject", action="store_true", help="say no")


def _new_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the model: models/NAME.yaml")
    parser.add_argument("--data", required=True, metavar="PATH", help="file, folder or pattern; anything fsspec opens")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="what is to be predicted")
    parser.add_argument("--task", choices=("binary", "multiclass", "regression"), help="default: told by the target")
    parser.add_argument(
        "--entity", action="append", default=[], metavar="COLUMN", help="who a row is about; may be given again"
    )
    parser.add_argument("--event-time", metavar="COLUMN", help="when a row happened")
    parser.add_argument("--arrival", metavar="COLUMN", help="when a row came to be known")
    parser.add_argument("--known-after-days", type=float, default=0, metavar="DAYS", help="how late labels are final")
    parser.add_argument("--ordered-rows", action="store_true", help="no instants, but the order of rows is time")
    parser.add_argument("--separator", help="of a CSV file; default: found out")
    parser.add_argument("--encoding", default="utf-8", help="of a CSV file (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="write over an existing model file")


def _run(parsed: argparse.Namespace) -> int:
    from pipeline.run import run

    return run(parsed)


def _stage(parsed: argparse.Namespace) -> int:
    from pipeline.run import stage

    return stage(parsed)


def _watch(parsed: argparse.Namespace) -> int:
    from pipeline.watch import watch

    return watch(parsed)


def _rollout(parsed: argparse.Namespace) -> int:
    from pipeline.rollout_command import judge

    return judge(parsed)


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    from pipeline.replay import add_arguments

    add_arguments(parser)


def _replay(parsed: argparse.Namespace) -> int:
    from pipeline.replay import replay

    return replay(parsed)


def _predictions_arguments(parser: argparse.ArgumentParser) -> None:
    from pipeline.log_command import add_arguments, predictions

    add_arguments(parser, predictions)


def _drill(parsed: argparse.Namespace) -> int:
    """The demo is no part of the pipeline: it runs as a process of its own."""
    import subprocess

    more = [*(["--folder", parsed.folder] if parsed.folder else []), *(["--json"] if parsed.json else [])]
    return subprocess.run([sys.executable, "-m", "demo", "drill", *more], check=False).returncode


def _new(parsed: argparse.Namespace) -> int:
    from pipeline.new import new
    from pipeline.settings import load_settings

    result = new(parsed, load_settings())
    print(result.to_json() if parsed.json else result.to_text())
    return 0


def _people(parsed: argparse.Namespace) -> int:
    from pipeline.people import COMMANDS

    return COMMANDS[parsed.name](parsed)


def _leave(status: int) -> None:
    """End the process without taking a million objects of the libraries apart first, which costs 1.7 s a command."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
