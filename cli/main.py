def main() -> None:
    print("kairos")
