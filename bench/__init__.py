"""Speed and quality beside peers. Each module prints JSON lines; ``python -m bench.run`` runs them and writes the board."""
