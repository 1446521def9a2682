"""python -m lisrt"""

from lisrt.cli import main

main()
