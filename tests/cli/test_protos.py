"""``lro protos``: what it writes, and what it says where it cannot."""

from pathlib import Path


def test_the_sources_are_written_where_they_are_imported_from(lro, tmp_path):
    result = lro("protos", str(tmp_path / "new" / "protos"))
    assert result.exit_code == 0
    assert "google/longrunning/operations.proto" in result.stdout
    written = tmp_path / "new" / "protos" / "google" / "longrunning" / "operations.proto"
    assert "message OperationInfo" in written.read_text(encoding="utf-8")
    assert lro("protos", str(tmp_path / "new" / "protos")).exit_code == 0  # again: a build does


def test_a_directory_that_cannot_be_written_is_one_sentence(lro, tmp_path):
    Path(tmp_path / "taken").touch()
    result = lro("protos", str(tmp_path / "taken"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
