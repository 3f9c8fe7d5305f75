"""``python -m yolo12edge`` is the ``yolo12edge`` command."""

from .cli import main

if __name__ == "__main__":
    main()
