import sys

import mlflow

with mlflow.start_run():
    with open("rows.csv", "w") as out:
        out.writelines(f"{number}\n" for number in range(int(float(sys.argv[1]))))
    mlflow.log_artifact("rows.csv", "data")
