from lakemesh.cli.main import main

main()
