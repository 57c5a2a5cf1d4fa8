"""The commands of `gausstune`, a file each, with what adds it to the parser and what it does."""
