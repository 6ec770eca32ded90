package io.memora.cli;

import io.memora.MemoraException;
import io.memora.internal.Native;
import java.util.Arrays;
import java.util.List;

/** What {@code java -jar memora.jar} runs. Exit codes: 0 done, 1 it failed, 2 wrong arguments. */
public final class Main {
    private static final String HELP = """
            Memora %s: cache, channels and store in shared memory.

              java -jar memora.jar                     open or create the default fabric, and type commands
              java -jar memora.jar shell [--fabric NAME] [--home DIR] [--store-dir DIR] [-c COMMAND]
              java -jar memora.jar demo                two JVMs share a cache, a channel and a store; one is killed
              java -jar memora.jar bench [--results FILE] [--quick true]
              java -jar memora.jar stress kv|queue --fabric NAME --seed TEXT --history FILE [--ops N | --seconds S]
              java -jar memora.jar flights-late --fabric NAME --store-dir DIR
              java -jar memora.jar flights-report --fabric NAME --store-dir DIR --airports FILE
              java -jar memora.jar version
            """;

    private Main() {}

    /** Runs a command and ends the JVM with its exit code. */
    public static void main(String[] arguments) {
        int code = run(Arrays.asList(arguments));
        System.out.flush();
        System.exit(code);
    }

    static int run(List<String> arguments) {
        String command = arguments.isEmpty() ? "shell" : arguments.get(0);
        List<String> rest = arguments.isEmpty() ? arguments : arguments.subList(1, arguments.size());
        try {
            return switch (command) {
                case "shell" -> Shell.main(rest);
                case "demo" -> Demo.main(rest);
                case "demo-worker" -> Demo.worker(rest);
                case "bench" -> Bench.main(rest);
                case "bench-publisher" -> ChannelBench.publisher(rest);
                case "stress" -> Stress.run(rest);
                case "flights-late" -> FlightsLate.main(rest);
                case "flights-report" -> FlightsReport.main(rest);
                case "version", "--version", "-V" -> version();
                case "help", "--help", "-h" -> help();
                default -> throw new Arguments.Wrong("there is no command `" + command + "`");
            };
        } catch (Arguments.Wrong error) {
            System.err.println("memora: " + error.getMessage() + ". `java -jar memora.jar help` lists the commands.");
            return 2;
        } catch (MemoraException error) {
            System.err.println("memora: " + error.getMessage());
            return 1;
        }
    }

    private static int version() {
        Native.require();
        System.out.println("memora " + Native.jarVersion() + " (native library " + Native.version() + ", Java "
                + System.getProperty("java.version") + ")");
        return 0;
    }

    private static int help() {
        System.out.print(HELP.formatted(Native.jarVersion()));
        return 0;
    }
}
